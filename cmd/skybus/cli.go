package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

const description = "A service platform on NATS. `skybus up` runs all of it on this machine."

// cli is the command line: what every command takes, and the commands, each in a file of its own. A group whose bare name
// does something gives that to a subcommand tagged default:"withargs": kong would call the Run of a group after the Run
// of each of its subcommands.
type cli struct {
	globals

	Up         upCmd         `cmd:"" help:"Run the whole platform on this machine."`
	Server     serverCmd     `cmd:"" help:"Run a NATS server with JetStream, alone or as part of a cluster."`
	Gateway    gatewayCmd    `cmd:"" help:"Run a gateway: it brings HTTP requests to routes."`
	HTTP       httpCmd       `cmd:"" name:"http" help:"List, show and change what gateways do with HTTP requests."`
	TCP        tcpCmd        `cmd:"" name:"tcp" help:"Run listeners for TCP: they bring lines and other frames to services and routes."`
	Router     routerCmd     `cmd:"" help:"Run a router: it serves routes as a service, and does asynchronous steps."`
	Scheduler  schedulerCmd  `cmd:"" help:"Run a scheduler: it fires and delivers timers, and serves their API."`
	Mirror     mirrorCmd     `cmd:"" help:"Run a mirror, which brings writes to all copies of an application, and look after it."`
	Files      filesCmd      `cmd:"" help:"Send the records of files to services, routes, subjects and streams."`
	Agent      agentCmd      `cmd:"" help:"Run a watcher that removes the records of dead instances, and reports."`
	Run        runCmd        `cmd:"" help:"Keep copies of a program running: restart the dead, replace the hung."`
	Status     statusCmd     `cmd:"" help:"Show the servers and what they store, and what is wrong."`
	Services   servicesCmd   `cmd:"" help:"List the services, and show their endpoints."`
	Versions   versionsCmd   `cmd:"" help:"List the versions of services."`
	Regions    regionsCmd    `cmd:"" help:"List the regions where services run."`
	Hosts      hostsCmd      `cmd:"" help:"List the hosts where services run."`
	Instances  instancesCmd  `cmd:"" help:"List the instances of services, and tell them what to do."`
	Routes     routesCmd     `cmd:"" help:"List, show and change routes."`
	Keys       keysCmd       `cmd:"" help:"List, make and disable API keys for the gateway."`
	Timers     timersCmd     `cmd:"" help:"List, make and change timers, and what became of them."`
	Config     configCmd     `cmd:"" help:"List, show and change configuration."`
	OpenAPI    openAPICmd    `cmd:"" name:"openapi" help:"Print the description of what the gateway serves, as OpenAPI 3.1."`
	Call       callCmd       `cmd:"" help:"Call an endpoint of a service."`
	Listen     listenCmd     `cmd:"" help:"Receive webhooks on this machine and print them."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
	Version    versionCmd    `cmd:"" help:"Print the versions of this program and of what it is made of."`
}

// commands is a command line that holds the flags every command takes.
type commands interface{ common() *globals }

// globals are the flags of every command.
type globals struct {
	Help help `short:"h" help:"Show help and exit." group:"common"`

	Output    outputFormat `short:"o" help:"How to print: table, json or yaml." enum:"table,json,yaml" default:"table" group:"common"`
	Namespace string       `short:"n" help:"Application and environment to work in." placeholder:"APP.ENV" group:"common"`
	LogLevel  string       `help:"Least level to log: trace, debug, info, warn or error. Default: info for what keeps running, else warn." enum:",trace,debug,info,warn,error" default:"" placeholder:"LEVEL" group:"common"`
	LogFile   string       `help:"File to append the log to, instead of stderr." placeholder:"FILE" group:"common"`

	connFlags
}

func (g *globals) common() *globals { return g }

// errHelp ends parsing when help was asked for and shown.
var errHelp = errors.New("help was shown")

// help is kong's help flag, but for leaving the process.
type help bool

// IgnoreDefault tells kong that the flag acts only where it is given.
func (help) IgnoreDefault() {}

// BeforeReset runs once the command line is split up, and before anything required is missed.
func (help) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelp
}

func newParser(root commands, app *App) (*kong.Kong, error) {
	parser, err := kong.New(root,
		kong.Name("skybus"),
		kong.Description(description),
		kong.NoDefaultHelp(),
		kong.Writers(app.stdout, app.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.DefaultEnvars("SKYBUS"),
		kong.ExplicitGroups([]kong.Group{
			{Key: "schedule", Title: "When it is due:"},
			{Key: "target", Title: "What it calls (one of --http, --call, --route, --publish, --tcp, --to):"},
			{Key: "frames", Title: "What frames are sent to (one of --call, --route, --publish, --stream):"},
			{Key: "source", Title: "A source without a file that describes it:"},
			{Key: "to", Title: "What its records are sent to:"},
			{Key: "retry", Title: "When the target does not take it:"},
			{Key: "guard", Title: "What timers may call:"},
			{Key: "spawn", Title: "As spawnctl has them:"},
			{Key: "criteria", Title: "Criteria (the values of one are alternatives, all have to be met):"},
			{Key: "common", Title: "Every command:"},
			{Key: "connection", Title: "Connection:"},
			{Key: "login", Title: "Login and TLS (as the nats command):"},
		}),
	)
	if err != nil {
		return nil, err
	}
	takeShort(parser.Model.Node)
	return parser, nil
}

// parseError is a usage error that says where to read on.
func parseError(err error) error {
	command := []string{"skybus"}
	if perr, ok := errors.AsType[*kong.ParseError](err); ok && perr.Context != nil {
		for _, p := range perr.Context.Path {
			// The default command of a group stands for the group: whoever mistyped another has not heard of it.
			if p.Command != nil && p.Command.Tag.Default == "" {
				command = append(command, p.Command.Name)
			}
		}
	}
	text := strings.TrimSpace(err.Error())
	usage := fmt.Sprintf("`%s --help` tells how it is used", strings.Join(command, " "))
	if negativeNumber.MatchString(text) {
		return withHint(usagef("%s", text), "what begins with a dash and is no flag goes after --; %s", usage)
	}
	return withHint(usagef("%s", text), "%s", usage)
}

var negativeNumber = regexp.MustCompile(`^unknown flag -[0-9.]`)
