package file_test

import "testing"

func inode(testing.TB, string) uint64 { return 0 }
