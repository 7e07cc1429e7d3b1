package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings collects the settings of a command. Each one is a flag, a variable in the
// environment and a default, in that order of strength. A secret is no flag: it is
// a variable, or the file that the variable with _FILE behind its name points to.
type settings struct {
	command string
	takes   string // the argument beside the flags, in help; empty for none
	fs      *flag.FlagSet
	all     []setting
	said    map[string]string // by flag name
	refused []string          // flags of secrets that were given
}

type setting struct {
	flag, env, def, usage string
	secret                bool
	set                   func(string) error
}

func newSettings(command string) *settings {
	fs := flag.NewFlagSet("krib "+command, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the flag package answers a wrong value with the whole usage; here it is one line
	fs.Usage = func() {}
	return &settings{command: command, fs: fs, said: map[string]string{}}
}

func flagName(env string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, "KRIB_"), "_", "-"))
}

// add registers a setting. The name of the flag follows from the variable's.
func (s *settings) add(env, def, usage string, set func(string) error) {
	o := s.register(env, def, usage, set)
	s.fs.Func(o.flag, o.usage, s.keep(o.flag))
}

// addBool registers a setting whose flag takes no value but behind a =.
func (s *settings) addBool(env, def, usage string, p *bool) {
	o := s.register(env, def, usage, boolean(p))
	s.fs.BoolFunc(o.flag, o.usage, s.keep(o.flag))
}

// addSecret registers a setting that no command line may have: other users of the
// machine can read those. The flag is there to be refused with the reason.
func (s *settings) addSecret(env, usage string, set func(string) error) {
	o := s.register(env, "", usage, set)
	s.all[len(s.all)-1].secret = true
	s.fs.Func(o.flag, "", func(string) error {
		s.refused = append(s.refused, o.flag)
		return nil
	})
}

func (s *settings) register(env, def, usage string, set func(string) error) setting {
	if def != "" {
		usage += " (default " + def + ")"
	}
	o := setting{flag: flagName(env), env: env, def: def, usage: usage + "\n[" + env + "]", set: set}
	s.all = append(s.all, o)
	return o
}

func (s *settings) keep(name string) func(string) error {
	return func(v string) error {
		s.said[name] = v
		return nil
	}
}

// parse reads the command line of a command that takes flags only, then sets
// everything. All that is wrong with the settings is reported at once.
func (s *settings) parse(args []string, env Lookup) error {
	rest, err := s.read(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return tooMany(rest)
	}
	return s.apply(env)
}

// parseOne is parse for a command that takes one argument, before, between or behind
// the flags. It is empty where there is none.
func (s *settings) parseOne(args []string, env Lookup) (given string, err error) {
	rest, err := s.read(args)
	if err != nil {
		return "", err
	}
	if len(rest) > 1 {
		return "", tooMany(rest[1:])
	}
	if len(rest) == 1 {
		given = rest[0]
	}
	return given, s.apply(env)
}

// parseID is parseOne for a command that needs its argument; needs names it.
func (s *settings) parseID(args []string, env Lookup, needs string) (string, error) {
	given, err := s.parseOne(args, env)
	if err == nil && given == "" {
		err = fmt.Errorf("%s is needed (%w)", needs, errUsage)
	}
	return given, err
}

func tooMany(rest []string) error {
	names := make([]string, len(rest))
	for i, r := range rest {
		names[i] = shown(r)
	}
	hint := "flags begin with -"
	if _, err := strconv.ParseBool(rest[0]); err == nil {
		hint = "a flag that is true or false takes its value behind a =, as in --json=false"
	}
	return fmt.Errorf("%d arguments too many: %s; %s (%w)", len(rest), strings.Join(names, ", "), hint, errUsage)
}

// read takes the flags out of args, wherever they stand, and returns what is left.
func (s *settings) read(args []string) (rest []string, err error) {
	for {
		if err := s.scan(args); err != nil {
			return nil, err
		}
		if err := s.fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, &helpRequest{s.help()}
			}
			return nil, fmt.Errorf("%w (%w)", err, errUsage)
		}
		left := s.fs.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			rest, left = append(rest, left...), nil
		}
		if len(left) == 0 {
			break
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	if len(s.refused) > 0 {
		env := s.named(s.refused[0]).env
		return nil, fmt.Errorf("--%s is no flag, since other users of this machine can read a command line: set %s, or %s_FILE to the path of a file (%w)",
			s.refused[0], env, env, errUsage)
	}
	return rest, nil
}

// scan finds, up to the first argument that is no flag, flags that there are not and
// flags whose value was forgotten, so that the next flag would be taken for it.
func (s *settings) scan(args []string) error {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag || args[i] == "-" || args[i] == "--" {
			return nil
		}
		name, _, given := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		f := s.fs.Lookup(name)
		if f == nil {
			if asksForHelp("-" + name) {
				return nil
			}
			return s.undefined(name)
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); given || ok && b.IsBoolFlag() {
			continue
		}
		i++
		if i == len(args) {
			return nil // the flag package says so
		}
		next, isFlag := strings.CutPrefix(args[i], "-")
		next, _, _ = strings.Cut(strings.TrimPrefix(next, "-"), "=")
		if isFlag && s.fs.Lookup(next) != nil {
			return fmt.Errorf("--%s needs a value, and the flag --%s follows; a value that looks like a flag is given behind a = (%w)", name, next, errUsage)
		}
	}
	return nil
}

func (s *settings) undefined(name string) error {
	var names []string
	s.fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	near := ""
	if n := nearest(name, names); n != "" {
		near = "; the nearest is --" + n
	}
	if strings.Contains(shown(name), "not shown") {
		name = "(not shown)"
	}
	return fmt.Errorf("flag provided but not defined: -%s%s (%w)", name, near, errUsage)
}

func (s *settings) named(flag string) *setting {
	for i := range s.all {
		if s.all[i].flag == flag {
			return &s.all[i]
		}
	}
	return nil
}

func (s *settings) apply(env Lookup) error {
	var errs []error
	for i := range s.all {
		v, name, err := s.value(&s.all[i], env)
		if err == nil {
			err = s.all[i].set(v)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	return nil
}

// value is what a setting is set to, and by what.
func (s *settings) value(o *setting, env Lookup) (v, name string, err error) {
	v, name = o.def, o.env
	if e, ok := env(o.env); ok && e != "" {
		v = e
	}
	if f, ok := s.said[o.flag]; ok {
		return f, "--" + o.flag, nil
	}
	if !o.secret {
		return v, name, nil
	}
	file, ok := env(o.env + fileSuffix)
	switch {
	case !ok || file == "":
		return v, name, nil
	case v != "":
		return "", name, fmt.Errorf("it is set twice: %s%s is set too", o.env, fileSuffix)
	}
	v, err = readSecret(file)
	return v, name + fileSuffix, err
}

// fileSuffix behind the name of a secret's variable makes it the path of a file.
const fileSuffix = "_FILE"

// readSecret reads a file without the end of its line, which editors and echo add.
func readSecret(file string) (string, error) {
	const most = 64 << 10
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was read
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > most:
		return "", fmt.Errorf("%s has more than %d bytes", file, most)
	}
	v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if v == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return v, nil
}

// help is the usage of the command: its flags, and apart from them its secrets.
func (s *settings) help() string {
	var b strings.Builder
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(&b)
	fmt.Fprintf(&b, "Usage: krib %s%s", s.command, s.takes)
	any := false
	s.fs.VisitAll(func(f *flag.Flag) {
		if o := s.named(f.Name); o == nil || !o.secret {
			flags.Var(f.Value, f.Name, f.Usage)
			any = true
		}
	})
	if any {
		fmt.Fprint(&b, " [flags]\n\nFlags, and in brackets the variable behind each:\n")
		flags.PrintDefaults()
	} else {
		fmt.Fprint(&b, "\n")
	}
	first := true
	for _, o := range s.all {
		if !o.secret {
			continue
		}
		if first {
			fmt.Fprint(&b, "\nSecrets are no flags. Set the variable, or the one with _FILE behind its name to the path of a file:\n")
			first = false
		}
		usage, _, _ := strings.Cut(o.usage, "\n")
		fmt.Fprintf(&b, "  %s\n    \t%s\n", o.env, usage)
	}
	return b.String()
}

func text(p *string) func(string) error {
	return func(v string) error {
		*p = v
		return nil
	}
}

func list(p *[]string) func(string) error {
	return func(v string) error {
		*p = nil
		for f := range strings.SplitSeq(v, ",") {
			if f = strings.TrimSpace(f); f != "" {
				*p = append(*p, f)
			}
		}
		return nil
	}
}

func number[T int | int32](p *T, low, high T) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || T(n) < low || T(n) > high {
			return fmt.Errorf("%q must be a whole number from %d to %d", v, low, high)
		}
		*p = T(n)
		return nil
	}
}

// perSecond takes rates such as 10 and 0.5.
func perSecond(p *float64) func(string) error {
	return func(v string) error {
		r, err := strconv.ParseFloat(v, 64)
		if err != nil || !(r >= 0.01 && r <= 1_000_000) { // so that NaN is refused
			return fmt.Errorf("%q must be a number from 0.01 to 1000000", v)
		}
		*p = r
		return nil
	}
}

// duration takes 30s, 5m, and a bare number of seconds, which is how the
// original's variables were written.
func duration(p *time.Duration, low, high time.Duration) func(string) error {
	return func(v string) error {
		d, err := time.ParseDuration(v)
		if n, e := strconv.Atoi(v); e == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil || d < low || d > high {
			return fmt.Errorf("%q must be a duration such as 30s or 5m, from %s to %s", v, low, high)
		}
		*p = d
		return nil
	}
}

// origins are compared as they stand, by the API and by the stream: a pattern would
// be one of them only.
func origins(p *[]string) func(string) error {
	return func(v string) error {
		if err := list(p)(v); err != nil {
			return err
		}
		for _, o := range *p {
			u, err := url.Parse(o)
			if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.Contains(o, "*")) {
				return fmt.Errorf("%q must be an origin such as https://app.example.com, without a path, or *", o)
			}
		}
		return nil
	}
}

func boolean(p *bool) func(string) error {
	return func(v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q must be true or false", v)
		}
		*p = b
		return nil
	}
}

func ranges(p *[]netip.Prefix) func(string) error {
	return func(v string) error {
		var items []string
		_ = list(&items)(v) // never fails
		*p = nil
		for _, s := range items {
			r, err := netip.ParsePrefix(s)
			if err != nil {
				return fmt.Errorf("%q must be an address range such as 10.0.0.0/8", s)
			}
			*p = append(*p, r)
		}
		return nil
	}
}

// portOf reads a port's number or the name of a service; no name server is asked.
func portOf(port string) (int, error) {
	return net.DefaultResolver.LookupPort(context.Background(), "tcp", port) //nolint:wrapcheck // it becomes a message
}

// address takes what a listener can be bound to.
func address(p *string) func(string) error {
	return func(v string) error {
		_, port, err := net.SplitHostPort(v)
		if err == nil {
			_, err = portOf(port)
		}
		if err != nil {
			return fmt.Errorf("%q must be an address and a port, such as 127.0.0.1:8080 or :8080", v)
		}
		*p = v
		return nil
	}
}
