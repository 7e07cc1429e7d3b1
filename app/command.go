package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// An action is what one command does with the arguments behind its name.
type action func(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error

// A command has an action or parts, which are commands too.
type command struct {
	name, does string
	run        action
	parts      []command
}

// commands are all there are, in the order in which help lists them.
func commands() *command {
	return &command{name: "krib", does: "krib carries booking events to webhooks, dashboards and raw topics.", parts: []command{
		{name: "dev", does: "everything in one process, with its own Kafka and Postgres", run: dev},
		{name: "serve", does: "the roles of a real installation (--roles)", run: serve},
		{name: "migrate", does: "bring the database to this version", run: migrate},
		{name: "topics", does: "create and repair the topics, or report how they differ", parts: topicsCommands()},
		{name: "schemas", does: "the topics' schemas, and a registry for them", parts: schemasCommands()},
		{name: "keys", does: "the API keys of agents", parts: keysCommands()},
		{name: "listen", does: "post an agent's events to a local URL, without a public address", run: forward},
		{name: "replay", does: "send events of the log to a subscription again", parts: replayCommands()},
		{name: "dead", does: "dead letters, and another try for them", parts: deadCommands()},
		{name: "audit", does: "prove from the topics that no delivery is missing", run: runAudit},
		{name: "tail", does: "print the records of a topic, and follow it", run: tail},
		{name: "export", does: "write a topic's records to ndjson or Parquet, also without personal data", run: runExport},
		{name: "bench", does: "measure an installation on this machine", run: runBench},
		{name: "version", does: "print the version", run: printVersion},
	}}
}

// A helpRequest is the error of a command that was asked for its usage, which belongs
// on the standard output and ends with status 0.
type helpRequest struct{ text string }

func (*helpRequest) Error() string { return "help was asked for" }

func asksForHelp(arg string) bool {
	return slices.Contains([]string{"-h", "-help", "--help", "help"}, arg)
}

// dispatch finds the command that args name and runs it. It returns the name that
// errors begin with.
func (c *command) dispatch(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) (path string, err error) {
	path = c.name
	for c.run == nil {
		switch {
		case len(args) == 0:
			return path, fmt.Errorf("say %s (%w)", c.choices(), errUsage)
		case asksForHelp(args[0]): // also krib help keys create
			rest := slices.DeleteFunc(slices.Clone(args), asksForHelp)
			if len(rest) == 0 {
				return path, &helpRequest{c.usage()}
			}
			args = append(rest, "-h")
		case c.name == "krib" && slices.Contains([]string{"-version", "--version"}, args[0]):
			args = append([]string{"version"}, args[1:]...)
		}
		part := c.part(args[0])
		if part == nil {
			return path, c.unknown(args[0])
		}
		if c.name == "krib" {
			path += " " + part.name
		}
		c, args = part, args[1:]
	}
	return path, c.run(ctx, args, env, out, stderr)
}

func (c *command) part(name string) *command {
	for i := range c.parts {
		if c.parts[i].name == name {
			return &c.parts[i]
		}
	}
	return nil
}

func (c *command) names() (names []string) {
	for i := range c.parts {
		names = append(names, c.parts[i].name)
	}
	return names
}

// choices are the names of the parts as a sentence has them.
func (c *command) choices() string {
	names := c.names()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func (c *command) unknown(name string) error {
	near := ""
	if n := nearest(name, c.names()); n != "" {
		near = ", the nearest is " + n
	}
	return fmt.Errorf("there is no command %s%s; say %s (%w)", shown(name), near, c.choices(), errUsage)
}

// usage lists the parts.
func (c *command) usage() string {
	var b strings.Builder
	group := c.name
	if group == "krib" {
		fmt.Fprintf(&b, "%s\n\n", c.does)
	} else {
		group = "krib " + group
		fmt.Fprintf(&b, "%s: %s\n\n", group, c.does)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for i := range c.parts {
		does := c.parts[i].does
		if len(c.parts[i].parts) > 0 {
			does = strings.Join(c.parts[i].names(), " | ") + ": " + does
		}
		fmt.Fprintf(w, "  %s %s\t%s\n", group, c.parts[i].name, does)
	}
	_ = w.Flush() // a strings.Builder takes everything
	fmt.Fprintf(&b, "\n%s COMMAND -h lists the flags of a command and the variables behind them.\n", group)
	return b.String()
}

// nearest is the name that the fewest edits make of what was written, or empty where
// more than a third of it would have to change.
func nearest(written string, names []string) (best string) {
	least := max(1, len(written)/3) + 1
	for _, n := range names {
		if d := edits(written, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// edits is Levenshtein's distance with neighbours that changed places as one edit.
func edits(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// shown is an argument as an error may repeat it. What may be a key, a signing secret
// or a URL with a password is not repeated: errors end in logs.
func shown(arg string) string {
	const longest = 60
	for _, mark := range []string{"krib_", "whsec_", "@", "="} {
		if strings.Contains(arg, mark) {
			return "(not shown)"
		}
	}
	if len(arg) > longest {
		return "(not shown)"
	}
	return fmt.Sprintf("%q", arg)
}
