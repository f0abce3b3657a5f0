package main

type mirrorCmd struct {
	Run mirrorRunCmd `cmd:"" help:"Run a mirror: it takes writes, brings them to all backends, and serves reads."`
}
