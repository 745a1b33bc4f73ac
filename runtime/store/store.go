package store

import _ "go.etcd.io/bbolt" // the file format
