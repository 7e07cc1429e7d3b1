package app_test

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/app"
)

// commandLine runs a command with these variables and no others.
func commandLine(t *testing.T, vars map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = app.Run(t.Context(), args, func(name string) (string, bool) { v, ok := vars[name]; return v, ok }, &out, &errs)
	return code, out.String(), errs.String()
}

// leaves are the commands without parts, as their help and that of the program lists
// them.
func leaves(t *testing.T) (names []string) {
	t.Helper()
	_, out, _ := commandLine(t, nil, "help")
	for _, m := range regexp.MustCompile(`(?m)^  krib (\w+) `).FindAllStringSubmatch(out, -1) {
		_, parts, _ := commandLine(t, nil, m[1], "-h")
		found := regexp.MustCompile(`(?m)^  krib `+m[1]+` (\w+) `).FindAllStringSubmatch(parts, -1)
		for _, p := range found {
			names = append(names, m[1]+" "+p[1])
		}
		if len(found) == 0 {
			names = append(names, m[1])
		}
	}
	if len(names) < 20 {
		t.Fatalf("only %q are found", names)
	}
	return names
}

func TestHelpAndVersionGoToTheStandardOutputAndSucceed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-h": "krib topics    apply | diff: ", "--help": "krib serve ", "-help": "krib dev ", "help": "krib bench ", "help help": "krib bench ",
		"--version": "krib 2.", "-version": "krib 2.", "version": "krib 2.",
		"keys -h": "krib keys create ", "topics --help": "krib topics diff ", "schemas help": "krib schemas register ", "dead -h": "krib dead requeue ",
		"replay -help": "krib replay cancel ", "help keys": "krib keys rotate ", "help dead requeue": "-dry-run", "keys help rotate": "-overlap",
		"serve -h": "KRIB_JWKS_URL", "migrate --help": "DATABASE_URL", "version -h": "Usage: krib version", "topics apply --kafka-brokers b:1 -h": "-force",
		"dead show -h": "Usage: krib dead show ID [flags]",
	} {
		code, out, errs := commandLine(t, nil, strings.Fields(args)...)
		if code != 0 || errs != "" || !strings.Contains(out, want) {
			t.Errorf("krib %s ended with %d: %s%s, want %q", args, code, out, errs, want)
		}
	}
}

func TestEveryCommandHasHelpAndRefusesWhatItDoesNotTake(t *testing.T) {
	t.Parallel()
	one := []string{"keys revoke", "keys rotate", "replay show", "replay cancel", "dead show", "schemas show"} // these take one argument
	for _, name := range leaves(t) {
		args := strings.Fields(name)
		if code, out, errs := commandLine(t, nil, append(args, "--help")...); code != 0 || errs != "" || !strings.Contains(out, "Usage: krib "+name) {
			t.Errorf("krib %s --help ended with %d: %s%s", name, code, out, errs)
		}
		more := []string{"foo"}
		if slices.Contains(one, name) {
			more = []string{"foo", "bar"}
		}
		code, out, errs := commandLine(t, nil, append(args, more...)...)
		if code != 2 || out != "" || !strings.Contains(errs, `1 arguments too many: "`+more[len(more)-1]+`"`) || strings.Count(errs, "\n") != 1 {
			t.Errorf("krib %s %s ended with %d: %s%s", name, more, code, out, errs)
		}
		if code, _, errs := commandLine(t, nil, append(args, "--no-such")...); code != 2 || !strings.Contains(errs, "not defined: -no-such") {
			t.Errorf("krib %s --no-such ended with %d: %s", name, code, errs)
		}
	}
}

func TestAWrongNameIsAnsweredWithTheNearestOne(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"serv": "the nearest is serve ", "migarte": "the nearest is migrate", "topic": "the nearest is topics", "versin": "the nearest is version",
		"keys crate": "the nearest is create", "dead requeu": "the nearest is requeue", "replay star": "the nearest is start",
		"serve --role=api": "the nearest is --roles", "topics apply --froce": "the nearest is --force", "audit --jsno": "the nearest is --json",
	} {
		code, out, errs := commandLine(t, nil, strings.Fields(args)...)
		if code != 2 || out != "" || !strings.Contains(errs, strings.TrimSpace(want)) || strings.Count(errs, "\n") != 1 {
			t.Errorf("krib %s ended with %d: %s%s, want %q", args, code, out, errs, want)
		}
	}
	if code, _, errs := commandLine(t, nil, "weather"); code != 2 || strings.Contains(errs, "nearest") || !strings.Contains(errs, "say dev, serve, ") {
		t.Errorf("a name near to none ended with %d: %s", code, errs)
	}
	if code, _, errs := commandLine(t, nil, "krib_live_0123456789abcdef"); code != 2 || strings.Contains(errs, "0123456789abcdef") {
		t.Errorf("a key in the place of a command ended with %d: %s", code, errs)
	}
}

// A flag that is true or false takes no value but behind a =, and no other flag takes
// the next one for its value.
func TestNoFlagTakesTheNextOneForItsValue(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"serve --webhook-allow-http --roles=none":             `--roles: there is no role "none"`,
		"serve --kafka-tls --log-level loud":                  "--log-level: ",
		"serve --webhook-allow-http=perhaps":                  `"perhaps" must be true or false`,
		"serve --webhook-allow-http true":                     "takes its value behind a =",
		"audit --kafka-tls --grace forever":                   "-grace",
		"serve --http-addr --admin-addr :1":                   "--http-addr needs a value, and the flag --admin-addr follows",
		"keys create --name --platform":                       "--name needs a value, and the flag --platform follows",
		"replay start --subscription s --since --only-failed": "--since needs a value",
		"topics diff --kafka-brokers":                         "flag needs an argument: -kafka-brokers",
	} {
		code, out, errs := commandLine(t, nil, strings.Fields(args)...)
		if code != 2 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("krib %s ended with %d: %s%s, want %q", args, code, out, errs, want)
		}
	}
	_, help, _ := commandLine(t, nil, "serve", "-h")
	for _, name := range []string{"-webhook-allow-http", "-kafka-tls"} {
		if !regexp.MustCompile(`(?m)^  ` + name + `$`).MatchString(help) {
			t.Errorf("help shows %s with a value", name)
		}
	}
}

// Whatever is wrong is reported before Postgres, Kafka or a folder is touched: nobody
// listens at these addresses, so a command that connects first reports that.
func TestSettingsAreCheckedBeforeAnythingIsTouched(t *testing.T) {
	t.Parallel()
	pem := filepath.Join(t.TempDir(), "none.pem")
	good := map[string]string{
		"DATABASE_URL": "postgres://krib@127.0.0.1:1/krib", "KRIB_KAFKA_BROKERS": "127.0.0.1:1", "KRIB_MASTER_KEYS": "1:" + strings.Repeat("A", 43) + "=",
		"KRIB_JWT_SECRET": "0123456789abcdef",
	}
	for _, c := range []struct{ name, value string }{
		{"KRIB_MASTER_KEYS", "1:short"},
		{"KRIB_MASTER_KEYS", "no colon"},
		{"WEBHOOK_SECRET_KEY", "short"},
		{"KRIB_JWT_SECRET", "short"},
		{"KRIB_JWKS_URL", "id.example.com"},
		{"KRIB_JWKS_URL", "https://user:hunter2@id.example.com/keys"},
		{"DATABASE_URL", "mysql:hunter2"},
		{"DATABASE_URL", "postgres://u:hunter2@h:port/d"},
		{"KRIB_KAFKA_BROKERS", "kafka:nine"},
		{"KRIB_KAFKA_BROKERS", "a:1:2"},
		{"KRIB_HTTP_ADDR", "8080"},
		{"KRIB_ADMIN_ADDR", "127.0.0.1:many"},
		{"KRIB_INSTANCE", "a b"},
		{"KRIB_INSTANCE", strings.Repeat("a", 101)},
		{"LOG_LEVEL", "loud"},
		{"KRIB_LOG_FORMAT", "xml"},
		{"KRIB_KAFKA_SASL", "gssapi"},
		{"KRIB_KAFKA_CA_FILE", pem},
		{"KRIB_RETRY_TIERS", "soon"},
		{"KRIB_WEBHOOK_ALLOW_CIDRS", "10.0.0.0"},
		{"KRIB_SMTP_URL", "smtp://user:hunter2@host:port"},
		{"KRIB_MAIL_FROM", "nobody"},
		{"KRIB_JWT_SECRET_FILE", pem},
		{"KRIB_DASHBOARD_URL", "x"},
		{"KRIB_CORS_ORIGINS", "example.com"},
	} {
		for _, roles := range []string{"all", "relay", "fanout", "deliver", "retry", "sinks", "jobs", "api", "api,push"} {
			vars := map[string]string{}
			maps.Copy(vars, good)
			vars[c.name] = c.value
			if before, ok := strings.CutSuffix(c.name, "_FILE"); ok {
				delete(vars, before)
			}
			if c.name == "KRIB_KAFKA_CA_FILE" {
				vars["KRIB_KAFKA_TLS"] = "true"
			}
			code, _, errs := commandLine(t, vars, "serve", "--roles="+roles)
			if code == 0 || !strings.Contains(errs, c.name) || strings.Contains(errs, "dial") || strings.Contains(errs, "hunter2") {
				t.Errorf("%s=%q with the roles %s ended with %d: %s", c.name, c.value, roles, code, errs)
			}
		}
		if c.name == "KRIB_INSTANCE" { // no setting of dev
			continue
		}
		dir := filepath.Join(t.TempDir(), "data")
		vars := map[string]string{c.name: c.value, "KRIB_DATA_DIR": dir}
		if c.name == "KRIB_KAFKA_CA_FILE" {
			vars["KRIB_KAFKA_TLS"], vars["KRIB_KAFKA_BROKERS"] = "true", good["KRIB_KAFKA_BROKERS"]
		}
		code, _, errs := commandLine(t, vars, "dev")
		if _, err := os.Stat(dir); code == 0 || err == nil || !strings.Contains(errs, c.name) {
			t.Errorf("krib dev with %s=%q ended with %d, its folder is there: %v; %s", c.name, c.value, code, err == nil, errs)
		}
	}
}

// Only the roles that seal or open secrets need the key for it.
func TestRolesWithoutSecretsNeedNoMasterKey(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"DATABASE_URL": "postgres://krib@127.0.0.1:1/krib", "KRIB_KAFKA_BROKERS": "127.0.0.1:1", "KRIB_JWT_SECRET": "0123456789abcdef",
		"KRIB_HTTP_ADDR": "127.0.0.1:0", "KRIB_ADMIN_ADDR": "127.0.0.1:0",
	}
	for roles, needed := range map[string]bool{"api": true, "deliver,retry": true, "all": true, "relay": false, "fanout,retry": false, "sinks,jobs": false} {
		code, _, errs := commandLine(t, vars, "serve", "--roles="+roles)
		if code == 0 || strings.Contains(errs, "KRIB_MASTER_KEYS") != needed || !needed && !strings.Contains(errs, "connecting to Postgres") {
			t.Errorf("the roles %s ended with %d: %s", roles, code, errs)
		}
	}
}

// What is a secret by its name is no flag of any command, and the refusal does not
// repeat it.
func TestSecretsAreNoFlags(t *testing.T) {
	t.Parallel()
	secret := regexp.MustCompile(`SECRET|PASSWORD|BEARER|_KEYS?$|DATABASE_URL|SMTP_URL|REGISTRY_URL`)
	const count = "KRIB_PULL_MAX_PER_KEY"
	found := map[string]bool{}
	for _, name := range leaves(t) {
		_, help, _ := commandLine(t, nil, append(strings.Fields(name), "-h")...)
		flags, secrets, _ := strings.Cut(help, "\nSecrets are no flags.")
		for _, m := range regexp.MustCompile(`\[([A-Z_]+)\]`).FindAllStringSubmatch(flags, -1) {
			if secret.MatchString(m[1]) && m[1] != count {
				t.Errorf("krib %s: %s is a flag", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^  ([A-Z_]+)$`).FindAllStringSubmatch(secrets, -1) {
			found[m[1]] = true
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(m[1], "KRIB_"), "_", "-"))
			for _, args := range [][]string{{"--" + flag, "hunter2-hunter2-hunter2"}, {"-" + flag + "=hunter2-hunter2-hunter2"}} {
				code, out, errs := commandLine(t, nil, append(strings.Fields(name), args...)...)
				if code != 2 || out != "" || !strings.Contains(errs, "set "+m[1]+", or "+m[1]+"_FILE") || strings.Contains(errs, "hunter2") {
					t.Errorf("krib %s --%s ended with %d: %s%s", name, flag, code, out, errs)
				}
			}
		}
	}
	for _, name := range []string{
		"KRIB_MASTER_KEYS", "WEBHOOK_SECRET_KEY", "KRIB_JWT_SECRET", "STRIPE_WEBHOOK_SECRET", "KRIB_SMTP_URL", "KRIB_KAFKA_PASSWORD", "DATABASE_URL",
		"KRIB_API_KEY", "KRIB_SIGNING_SECRET", "KRIB_BEARER", "KRIB_REDACT_KEY", "KRIB_SCHEMA_REGISTRY_URL",
	} {
		if !found[name] {
			t.Errorf("no command lists %s as a secret", name)
		}
	}
}

func TestASecretIsReadFromAFile(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const nowhere = "postgres://krib:hunter2@127.0.0.1:1/krib"
	for _, c := range []struct {
		what, says string
		vars       map[string]string
	}{
		{"a line", "connecting to Postgres", map[string]string{"DATABASE_URL_FILE": file(nowhere + "\n")}},
		{"a line of Windows", "connecting to Postgres", map[string]string{"DATABASE_URL_FILE": file(nowhere + "\r\n")}},
		{"no end of line", "connecting to Postgres", map[string]string{"DATABASE_URL_FILE": file(nowhere)}},
		{"an empty file", "DATABASE_URL_FILE: ", map[string]string{"DATABASE_URL_FILE": file("\n")}},
		{"no file", "DATABASE_URL_FILE: ", map[string]string{"DATABASE_URL_FILE": "/no/such/file"}},
		{"a folder", "DATABASE_URL_FILE: ", map[string]string{"DATABASE_URL_FILE": t.TempDir()}},
		{"nonsense", "DATABASE_URL_FILE: ", map[string]string{"DATABASE_URL_FILE": file("hunter2:")}},
		{"too much", "DATABASE_URL_FILE: ", map[string]string{"DATABASE_URL_FILE": file(strings.Repeat("x", 1<<17))}},
		{"both", "it is set twice", map[string]string{"DATABASE_URL_FILE": file(nowhere), "DATABASE_URL": nowhere}},
	} {
		code, _, errs := commandLine(t, c.vars, "migrate")
		if code == 0 || !strings.Contains(errs, c.says) || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: ended with %d: %s", c.what, code, errs)
		}
	}
}

// Help whose reader has gone is no success.
func TestHelpThatCannotBeWrittenFails(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	_ = r.Close()
	if code := app.Run(t.Context(), []string{"help"}, func(string) (string, bool) { return "", false }, w, io.Discard); code != 1 {
		t.Errorf("ended with %d", code)
	}
}
