package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	listening "github.com/krib-ai/krib/internal/listen"
	"github.com/krib-ai/krib/internal/webhook"
	"github.com/krib-ai/krib/schemas"
)

// forward is krib listen: an agent's events, posted to a local URL.
func forward(ctx context.Context, args []string, env Lookup, out, stderr io.Writer) error {
	o := listening.Options{Out: out, Notes: stderr}
	var (
		dir   string
		quiet bool
	)
	s := newSettings("listen")
	s.add("KRIB_API_URL", "", "the API to listen to; without it, the one that krib dev runs", text(&o.APIURL))
	s.addSecret("KRIB_API_KEY", "an agent's key with the scope "+schemas.ScopeEventsRead, secret(&o.APIKey))
	s.add("KRIB_DATA_DIR", ".krib", "the folder of krib dev, whose dev.json says what is not given", text(&dir))
	s.addSecret("KRIB_SIGNING_SECRET", "what signs the requests, whsec_…; without it one is made and printed", signingSecretText(&o.Secret))
	s.addSecret("KRIB_BEARER", "sent to the local URL as Authorization: Bearer", secret(&o.Bearer))
	s.fs.StringVar(&o.ForwardTo, "forward-to", "", "the local URL to post events to, such as http://127.0.0.1:3000/webhooks")
	s.fs.Func("events", "only these types of event, separated by commas (default all)", eventList(&o.Types))
	s.fs.Func("since", "begin with what happened then: a time as 2006-01-02T15:04:05Z, or 2h ago (default now)", moments(&o.Since))
	s.fs.BoolVar(&o.JSON, "json", false, "print a line of JSON for each event")
	s.fs.BoolVar(&quiet, "no-forward", false, "print only")
	if err := s.parse(args, env); err != nil {
		return err
	}
	if (o.ForwardTo != "") == quiet {
		return fmt.Errorf("say --forward-to URL, or --no-forward to print only (%w)", errUsage)
	}
	if !quiet {
		// Not while the flags are read: that error repeats what was given, and URLs hold
		// passwords.
		if _, err := webhook.ParseURL(o.ForwardTo); err != nil {
			return fmt.Errorf("--forward-to %w (%w)", err, errUsage)
		}
	}
	if err := whichAPI(&o, dir); err != nil {
		return err
	}
	return listening.Run(ctx, o)
}

// whichAPI fills in what was not given from the folder of krib dev.
func whichAPI(o *listening.Options, dir string) error {
	if o.APIURL == "" && o.APIKey == "" {
		path := filepath.Join(dir, devFileName)
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("no API is named, and krib dev is not running here (%s is not there): give --api-url and KRIB_API_KEY (%w)", path, errUsage)
		}
		var f devFile
		if err := json.Unmarshal(b, &f); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		o.APIURL, o.APIKey = f.APIURL, schemas.Secret(f.APIKey)
	}
	switch {
	case o.APIKey == "":
		return fmt.Errorf("KRIB_API_KEY must be set with --api-url (%w)", errUsage)
	case o.APIURL == "":
		return fmt.Errorf("--api-url must be given with the key (%w)", errUsage)
	}
	if err := isWebURL(o.APIURL); err != nil {
		return fmt.Errorf("--api-url: %w (%w)", err, errUsage)
	}
	return nil
}

func secret(p *schemas.Secret) func(string) error {
	return func(v string) error {
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("must be visible ASCII characters")
		}
		*p = schemas.Secret(v)
		return nil
	}
}

func signingSecretText(p *schemas.Secret) func(string) error {
	return func(v string) error {
		*p = schemas.Secret(v)
		if v == "" {
			return nil
		}
		_, err := schemas.ParseSigningSecret(*p)
		return err
	}
}

// isWebURL takes what an HTTP client can call.
func isWebURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return errors.New("must be a URL such as http://127.0.0.1:3000/webhooks, without credentials")
	}
	return nil
}

func eventList(p *[]string) func(string) error {
	return func(v string) error {
		_ = list(p)(v) // never fails
		for _, t := range *p {
			if !slices.Contains(schemas.BookingEventTypes(), schemas.EventType(t)) {
				return fmt.Errorf("there is no event %q; there are %v", t, schemas.BookingEventTypes())
			}
		}
		return nil
	}
}

// moments takes a time, or how long ago it was.
func moments(p *time.Time) func(string) error {
	return func(v string) error {
		at, err := time.Parse(time.RFC3339, v)
		if err != nil {
			ago, err := lifetime(v)
			if err != nil {
				return errors.New("must be a time such as 2026-03-01T09:00:00Z, or a duration such as 2h or 7d")
			}
			at = time.Now().Add(-ago)
		}
		*p = at
		return nil
	}
}
