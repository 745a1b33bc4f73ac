package whisk

import (
	"fmt"
	"regexp"
	"strings"
)

// GuestAuth is the key that every OpenWhisk for development knows, UUID:KEY
// (apache/openwhisk, core/standalone/src/main/resources/standalone.conf). It protects
// nothing and is for loopback only.
const GuestAuth = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"

// The namespaces of a server of one's own.
const (
	// Guest is the namespace of the user.
	Guest = "guest"
	// System is the namespace of what the server itself provides.
	System = "whisk.system"
	// Own stands for the caller's namespace in a path.
	Own = "_"
	// NoPackage stands for no package in the path of a web action.
	NoPackage = "default"
)

// A Collection is a kind of entity, as it stands in a path.
type Collection string

// The collections of a namespace.
const (
	Actions  Collection = "actions"
	Triggers Collection = "triggers"
	Rules    Collection = "rules"
	Packages Collection = "packages"
)

// A Name is the full name of an entity.
type Name struct {
	Namespace string
	// Package is empty for an entity that is in none. Only actions are in packages.
	Package string
	// Entity is the last segment. It is empty when Package itself is meant, as in the list
	// of what is in a package.
	Entity string
}

// String returns /namespace/[package/]entity.
func (n Name) String() string { return "/" + n.Path() + "/" + n.Entity }

// Path returns namespace[/package], which entities and activations show as their
// namespace.
func (n Name) Path() string {
	if n.Package == "" {
		return n.Namespace
	}
	return n.Namespace + "/" + n.Package
}

// segment is a name as apache/openwhisk has it (EntityName.REGEX).
var segment = regexp.MustCompile(`^[\p{L}\p{N}_]$|^[\p{L}\p{N}_][\p{L}\p{N}_@ .&-]*[\p{L}\p{N}_@.&-]$`)

// maxSegment is how many characters a name may have (EntityName.ENTITY_NAME_MAX_LENGTH).
const maxSegment = 256

// CheckSegment refuses what cannot be the name of an entity, a package or a namespace.
func CheckSegment(name string) error {
	if len([]rune(name)) > maxSegment || !segment.MatchString(name) {
		return fmt.Errorf("%.80q cannot be a name: letters, digits, '_', '-', '.', '@', '&' and spaces within, at most %d characters", name, maxSegment)
	}
	return nil
}

// ParseName reads [/]namespace/[package/]entity. Own and a missing namespace become that
// of the caller.
func ParseName(text, caller string) (Name, error) {
	parts := strings.Split(strings.TrimPrefix(text, "/"), "/")
	if !strings.HasPrefix(text, "/") {
		parts = append([]string{caller}, parts...)
	}
	var n Name
	switch len(parts) {
	case 2:
		n = Name{Namespace: parts[0], Entity: parts[1]}
	case 3:
		n = Name{Namespace: parts[0], Package: parts[1], Entity: parts[2]}
	default:
		return n, fmt.Errorf("%.80q is not the name of an entity: want /namespace/[package/]name", text)
	}
	if n.Namespace == Own {
		n.Namespace = caller
	}
	for _, part := range parts[1:] {
		if err := CheckSegment(part); err != nil {
			return n, err
		}
	}
	return n, nil
}
