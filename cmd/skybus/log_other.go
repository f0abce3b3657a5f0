//go:build !unix

package main

import "os"

// levelSignals has no signals to offer here: nil channels never deliver.
func levelSignals() (more, less <-chan os.Signal, release func()) {
	return nil, nil, func() {}
}
