package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/krib-ai/krib/schemas"
)

// schemasCommands list and show the schemas of the topics, and put them into a
// registry that speaks Confluent's protocol.
func schemasCommands() []command {
	part := func(name, does string, do func(context.Context, *settings, []string, Lookup, io.Writer) error) command {
		return command{name: name, does: does, run: func(ctx context.Context, args []string, env Lookup, out, _ io.Writer) error {
			return do(ctx, newSettings("schemas "+name), args, env, out)
		}}
	}
	return []command{
		part("list", "the schema of each topic", listSchemas), part("show", "the text of a schema", showSchema),
		part("register", "put the topics' schemas into a registry", registerSchemas),
	}
}

func listSchemas(_ context.Context, s *settings, args []string, env Lookup, out io.Writer) error {
	var c config
	c.topicSettings(s)
	if err := s.parse(args, env); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tSCHEMA\tPUBLISHED AS")
	for _, t := range c.topics() {
		name, _ := schemas.SchemaOf(t.Name)
		fmt.Fprintf(w, "%s\t%s\t%s%s.json\n", t.Name, name, schemas.SchemaBase, name)
	}
	return w.Flush()
}

func showSchema(_ context.Context, s *settings, args []string, env Lookup, out io.Writer) error {
	s.takes = " SCHEMA"
	name, err := s.parseOne(args, env)
	if err != nil {
		return err
	}
	names := schemas.SchemaNames()
	if !slices.Contains(names, name) {
		return fmt.Errorf("say which schema: %s (%w)", strings.Join(names, ", "), errUsage)
	}
	b, err := schemas.Schema(name)
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// A registry is where the schemas go.
type registry struct {
	url    *url.URL // without credentials
	auth   *url.Userinfo
	compat sr.CompatibilityLevel
}

func (r *registry) settings(s *settings) {
	s.addSecret("KRIB_SCHEMA_REGISTRY_URL", "the registry: https://user:password@host:port, with or without credentials", r.at)
	s.add("KRIB_SCHEMA_COMPATIBILITY", "FORWARD", "what the registry demands of the next version of a subject: NONE, BACKWARD, FORWARD, FULL, or one of them with _TRANSITIVE",
		func(v string) error {
			if err := r.compat.UnmarshalText([]byte(v)); err != nil {
				return fmt.Errorf("%q must be NONE, BACKWARD, FORWARD, FULL, or one of the last three with _TRANSITIVE", v)
			}
			return nil
		})
}

// at reads the registry's URL. It may hold a password, so no error repeats it.
func (r *registry) at(v string) error {
	if v == "" {
		return errors.New("must be set")
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must be http:// or https:// with a host, without a query")
	}
	r.auth, u.User = u.User, nil
	r.url = u
	return nil
}

func (r *registry) client() (*sr.Client, error) {
	opts := []sr.ClientOpt{sr.URLs(r.url.String()), sr.UserAgent("krib/" + version())}
	if r.auth != nil {
		password, _ := r.auth.Password()
		opts = append(opts, sr.BasicAuth(r.auth.Username(), password))
	}
	cl, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making a client of the registry: %w", err)
	}
	return cl, nil
}

// registerSchemas puts the schema of every topic under <topic>-value, which is
// where clients with the TopicNameStrategy look. What is there already stays.
func registerSchemas(ctx context.Context, s *settings, args []string, env Lookup, out io.Writer) error {
	var c config
	var r registry
	c.topicSettings(s)
	r.settings(s)
	if err := s.parse(args, env); err != nil {
		return err
	}
	cl, err := r.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SUBJECT\tSCHEMA\tVERSION\tID\t")
	for _, t := range c.topics() {
		name, _ := schemas.SchemaOf(t.Name)
		got, is, err := register(ctx, cl, t.Name+"-value", name, r.compat)
		if err != nil {
			return errors.Join(err, w.Flush()) // what was done before stays, and is said
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", got.Subject, name, got.Version, got.ID, is)
	}
	return w.Flush()
}

// register makes one subject hold a schema, and says whether it is new there. The
// level is set first: it is what the registry checks the schema by.
func register(ctx context.Context, cl *sr.Client, subject, name string, compat sr.CompatibilityLevel) (got sr.SubjectSchema, is string, err error) {
	raw, err := schemas.Schema(name)
	if err != nil {
		return got, "", err
	}
	var text bytes.Buffer
	if err := json.Compact(&text, raw); err != nil { // white space is no difference
		return got, "", fmt.Errorf("reading the schema %s: %w", name, err)
	}
	for _, res := range cl.SetCompatibility(ctx, sr.SetCompatibility{Level: compat}, subject) {
		if res.Err != nil {
			return got, "", registrySays("setting the compatibility of "+subject, res.Err)
		}
	}
	schema := sr.Schema{Schema: text.String(), Type: sr.TypeJSON}
	if got, err = cl.LookupSchema(ctx, subject, schema); err == nil {
		return got, "unchanged", nil
	}
	var no *sr.ResponseError
	if !errors.As(err, &no) || (no.ErrorCode != sr.ErrSubjectNotFound.Code && no.ErrorCode != sr.ErrSchemaNotFound.Code) {
		return got, "", registrySays("looking "+subject+" up", err)
	}
	if got, err = cl.CreateSchema(ctx, subject, schema); err != nil {
		return got, "", registrySays("registering "+subject, err)
	}
	return got, "registered", nil
}

// maxRefusal bounds what is repeated of an answer: it may be a proxy's page.
const maxRefusal = 300

// registrySays says what the registry answered while something was being done.
func registrySays(doing string, err error) error {
	var no *sr.ResponseError
	if !errors.As(err, &no) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	text := no.Error()
	return fmt.Errorf("%s: the registry answered %d: %s", doing, no.StatusCode, text[:min(len(text), maxRefusal)])
}
