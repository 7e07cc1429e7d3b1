package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// settings collects what a command can be told: each one is a flag, a variable
// in the environment and a default, in that order of strength.
type settings struct {
	fs   *flag.FlagSet
	all  []setting
	said map[string]string // by flag name
}

type setting struct {
	flag, env, def string
	set            func(string) error
}

func newSettings(command string, stderr io.Writer) *settings {
	fs := flag.NewFlagSet("krib "+command, flag.ContinueOnError)
	fs.SetOutput(stderr)
	return &settings{fs: fs, said: map[string]string{}}
}

// add registers one. The name of the flag follows from the variable's.
func (s *settings) add(env, def, usage string, set func(string) error) {
	name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env, "KRIB_"), "_", "-"))
	s.all = append(s.all, setting{name, env, def, set})
	if def != "" {
		usage += " (default " + def + ")"
	}
	s.fs.Func(name, usage+"\n["+env+"]", func(v string) error {
		s.said[name] = v
		return nil
	})
}

// parse reads the command line, then sets everything. All that is wrong is said
// at once.
func (s *settings) parse(args []string, env Lookup) error {
	if err := s.fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	var errs []error
	for _, o := range s.all {
		v, name := o.def, o.env
		if e, ok := env(o.env); ok && e != "" {
			v = e
		}
		if f, ok := s.said[o.flag]; ok {
			v, name = f, "--"+o.flag
		}
		if err := o.set(v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w (%w)", err, errUsage)
	}
	return nil
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
