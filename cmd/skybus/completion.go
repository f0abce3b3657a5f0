package main

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completeWord is the first argument with which the scripts below call back: then the shell, then the words of the
// command line up to and with the one to complete.
const completeWord = "__complete"

var (
	//go:embed completion/skybus.bash
	bashScript string
	//go:embed completion/skybus.zsh
	zshScript string
	//go:embed completion/skybus.fish
	fishScript string
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the usage.
func (completionCmd) Help() string {
	return `Examples:

    source <(skybus completion bash)
    source <(skybus completion zsh)
    skybus completion fish | source

In the shell's start-up file the line makes it last.`
}

// Run prints the script.
func (c completionCmd) Run(app *App) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	_, err := io.WriteString(app.stdout, script)
	return err
}

// candidate is a word that can stand where the cursor is.
type candidate struct{ word, help string }

// complete answers a script: a candidate per line, its help after a tab. No line means that the shell knows better.
func (a *App) complete(model *kong.Application, args []string) error {
	if len(args) == 0 {
		return usagef("%s: want a shell and words", completeWord)
	}
	shell, words := args[0], args[1:]
	cut := 0
	if shell == "bash" {
		words = joinWords(words)
	}
	if len(words) == 0 {
		words = []string{""}
	}
	if shell == "bash" {
		// bash replaces only what follows the last of these.
		cut = strings.LastIndexAny(words[len(words)-1], "=:") + 1
	}
	for _, c := range candidates(model.Node, words) {
		if _, err := fmt.Fprintf(a.stdout, "%s\t%s\n", c.word[cut:], c.help); err != nil {
			return err
		}
	}
	return nil
}

// joinWords undoes what bash does to words with = and : in them, it makes each several.
func joinWords(words []string) []string {
	var joined []string
	glue := false
	for _, w := range words {
		sep := w != "" && strings.Trim(w, "=:") == ""
		if (sep || glue) && len(joined) > 0 {
			joined[len(joined)-1] += w
		} else {
			joined = append(joined, w)
		}
		glue = sep
	}
	return joined
}

// candidates finds what can stand in the place of the last word, given those before it.
func candidates(node *kong.Node, words []string) []candidate {
	last := words[len(words)-1]
	var (
		pending    *kong.Flag // waits for its value
		onlyArgs   bool       // after --
		positional int
	)
	for _, w := range words[:len(words)-1] {
		switch {
		case pending != nil:
			pending = nil
		case onlyArgs:
			positional++
		case w == "--":
			onlyArgs = true
		case len(w) > 1 && w[0] == '-':
			pending = wantsValue(node, w)
		default:
			if child := childOf(node, w); child != nil && positional == 0 {
				node = child
			} else {
				positional++
			}
		}
	}
	name, _, hasValue := strings.Cut(last, "=")
	var all []candidate
	switch {
	case pending != nil:
		all = values(pending.Value, "")
	case !onlyArgs && hasValue && strings.HasPrefix(last, "--"):
		if f := flagOf(node, name); f != nil {
			all = values(f.Value, name+"=")
		}
	case !onlyArgs && strings.HasPrefix(last, "-"):
		all = flags(node)
	default:
		all = arguments(node, positional)
	}
	all = slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, last) })
	slices.SortFunc(all, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	return all
}

func arguments(node *kong.Node, positional int) []candidate {
	var all []candidate
	if positional == 0 {
		for _, child := range node.Children {
			if !child.Hidden && child.Type == kong.CommandNode {
				all = append(all, candidate{child.Name, firstLine(child.Help)})
			}
		}
	}
	if positional < len(node.Positional) {
		all = append(all, values(node.Positional[positional], "")...)
	}
	return all
}

func values(v *kong.Value, prefix string) []candidate {
	var all []candidate
	for _, word := range v.EnumSlice() {
		if word != "" {
			all = append(all, candidate{prefix + word, ""})
		}
	}
	return all
}

func flags(node *kong.Node) []candidate {
	var all []candidate
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if !f.Hidden {
				all = append(all, candidate{"--" + f.Name, firstLine(f.Help)})
			}
		}
	}
	return all
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name || slices.Contains(child.Aliases, name) {
			return child
		}
	}
	return nil
}

// flagOf finds a flag by its name with dashes.
func flagOf(node *kong.Node, name string) *kong.Flag {
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

// wantsValue is the flag that word is when the next word is its value.
func wantsValue(node *kong.Node, word string) *kong.Flag {
	f := flagOf(node, word)
	if f == nil || f.IsBool() || f.IsCounter() {
		return nil
	}
	return f
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.ReplaceAll(line, "\t", " ")
}
