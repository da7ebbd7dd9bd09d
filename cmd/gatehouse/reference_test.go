package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the reference anew")

const reference = "../../docs/reference/cli.md"

// The reference is what --help says, so that it cannot say anything else.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# The command line\n\nExit codes: 0 yes or done, 1 no, denied or found, 2 usage or input error, 3 server unreachable. Data goes to standard output, words for people to standard error.\n")
	describe(&b, rootCommand())
	want := b.String()
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: run go test ./cmd/gatehouse -update", reference)
	}
}

func describe(b *strings.Builder, c *cobra.Command) {
	if c.Runnable() {
		fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
		if c.Long != "" {
			fmt.Fprintf(b, "\n%s\n", c.Long)
		}
		fmt.Fprintf(b, "\n    %s\n", c.UseLine())
		if flags := c.NonInheritedFlags(); flags.HasAvailableFlags() {
			b.WriteString("\n| flag | meaning |\n|---|---|\n")
			flags.VisitAll(func(f *pflag.Flag) {
				if f.Hidden || f.Name == "help" {
					return
				}
				name := "`--" + f.Name + "`"
				if f.Shorthand != "" {
					name = "`-" + f.Shorthand + "`, " + name
				}
				usage := strings.ReplaceAll(f.Usage, "|", "\\|")
				if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
					usage += " (default `" + f.DefValue + "`)"
				}
				fmt.Fprintf(b, "| %s | %s |\n", name, usage)
			})
		}
		if c.Example != "" {
			b.WriteString("\nExamples:\n\n")
			for line := range strings.Lines(c.Example) {
				b.WriteString("    " + strings.TrimPrefix(line, "  "))
			}
			b.WriteString("\n")
		}
	}
	for _, sub := range c.Commands() {
		if sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		describe(b, sub)
	}
}

// Every command says what it does and shows how.
func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Runnable() && c.Name() != "help" && c.Name() != "completion" && (c.Short == "" || c.Long == "" || c.Example == "") && c.Parent() != nil {
			t.Errorf("%s lacks a description or an example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(rootCommand())
}
