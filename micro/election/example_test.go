package election_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/skybus-io/skybus/bus"
	"github.com/skybus-io/skybus/bus/bustest"
	"github.com/skybus-io/skybus/kv"
	"github.com/skybus-io/skybus/micro/election"
)

// exampleElection has a server of its own; end closes both.
func exampleElection(ctx context.Context) (e *election.Election, end func()) {
	server, err := bustest.Open()
	if err != nil {
		panic(err)
	}
	conn, err := bus.Connect(ctx, bus.Config{InProcess: server})
	if err != nil {
		panic(err)
	}
	e, err = election.Open(ctx, conn, election.Config{})
	if err != nil {
		panic(err)
	}
	return e, func() { _ = errors.Join(e.Close(), conn.Close(), server.Close()) }
}

func ExampleElection_Campaign() {
	ctx := context.Background()
	e, end := exampleElection(ctx) // in a program: election.Open(ctx, conn, election.Config{})
	defer end()

	leadership, err := e.Campaign(ctx, "shop", "instance-1") // blocks until elected
	if err != nil {
		fmt.Println(err)
		return
	}
	leader, err := e.Leader(ctx, "shop")
	fmt.Println(leader.Candidate, leader.Term == leadership.Term(), err)

	if leadership.Valid() { // before each act, which carries leadership.Term along
		fmt.Println("acting")
	}
	fmt.Println(leadership.Resign(ctx), leadership.Valid())
	fmt.Println(leadership.Resign(ctx))
	// Output:
	// instance-1 true <nil>
	// acting
	// <nil> false
	// election: resign: not the leader any more
}

func ExampleElection_Run() {
	ctx, stop := context.WithCancel(context.Background())
	e, end := exampleElection(ctx)
	defer end()

	turns := 0
	err := e.Run(ctx, "shop", "instance-1", func(_ context.Context, _ kv.Term) error {
		if turns++; turns == 3 {
			stop()
		}
		fmt.Println("leader, turn", turns)
		return nil // resigns, and campaigns again
	})
	fmt.Println(err)
	// Output:
	// leader, turn 1
	// leader, turn 2
	// leader, turn 3
	// <nil>
}

func ExampleElection_Watch() {
	ctx := context.Background()
	e, end := exampleElection(ctx)
	defer end()
	leadership, err := e.Campaign(ctx, "shop", "instance-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for change, err := range e.Watch(ctx, "shop") {
		fmt.Println(change.Kind, change.Candidate, err)
		if change.Kind == election.Lost {
			break
		}
		fmt.Println(leadership.Resign(ctx))
	}
	// Output:
	// got instance-1 <nil>
	// <nil>
	// lost instance-1 <nil>
}
