package mirror_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/skybus-io/skybus/mirror"
)

// A mirror before two copies of an application. What is put once is in both.
func ExampleOpen() {
	ctx, cancel := context.WithCancel(context.Background())
	conn, stop := exampleServer(ctx)
	defer stop()
	one, two := exampleNotes(), exampleNotes()
	defer one.Close()
	defer two.Close()

	m, err := mirror.Open(ctx, conn, mirror.Config{Ack: mirror.All})
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()
	if err := m.SetAll(ctx, []mirror.Backend{
		{Name: "one", URL: one.URL, Active: true},
		{Name: "two", URL: two.URL, Active: true},
	}); err != nil {
		panic(err)
	}
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		_ = m.Run(ctx) // sends what is written to both, in order
	}()
	defer func() { cancel(); <-sending }()

	front := httptest.NewServer(m)
	defer front.Close()
	status, _ := exampleRequest("PUT", front.URL+"/notes/1", strings.NewReader("buy milk"))
	fmt.Println("the mirror:", status)
	for name, app := range map[string]*httptest.Server{"one": one, "two": two} {
		if status, note := exampleRequest("GET", app.URL+"/notes/1", nil); note != "buy milk" {
			fmt.Println(name, status)
		}
	}
	_, note := exampleRequest("GET", front.URL+"/notes/1", nil)
	fmt.Println("read through it:", note)
	// Output:
	// the mirror: 201
	// read through it: buy milk
}
