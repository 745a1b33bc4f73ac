package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// documentedErrors reads the table of docs/node.md, "What callers get": for each status the phrases
// of which a message with it has one.
func documentedErrors(t *testing.T) map[int][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "docs/node.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## What callers get\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := map[int][]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+) \|`).FindAllStringSubmatch(section, -1) {
		status, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, phrase := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
			found[status] = append(found[status], strings.TrimSuffix(phrase[1], " …"))
		}
	}
	if len(found[503]) < 5 || len(found[429]) == 0 || len(found[504]) == 0 {
		t.Fatalf("docs/node.md documents %v; the check would be empty", found)
	}
	return found
}

// documented returns the phrase of the page that a message with the status has, or nothing.
func (s *soak) documented(status int, message string) string {
	for _, phrase := range s.errors[status] {
		if strings.Contains(message, phrase) {
			return phrase
		}
	}
	return ""
}
