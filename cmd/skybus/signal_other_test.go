//go:build !unix

package main

import "os"

func testSignals() map[string]os.Signal { return map[string]os.Signal{} }
