package main

import (
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// load reads the file as docker compose does with these variables set, and no
// .env beside it.
func load(t *testing.T, variables ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithEnv(variables))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func service(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// environment is what the service is given. A variable without a value comes from
// the shell, where it may be missing.
func environment(t *testing.T, s types.ServiceConfig) map[string]string {
	t.Helper()
	out := map[string]string{}
	for k, v := range s.Environment {
		if v == nil {
			t.Errorf("%s: %s is left to the shell", s.Name, k)
			continue
		}
		out[k] = *v
	}
	return out
}

func TestTheServicesAreThoseOfAnInstallation(t *testing.T) {
	p := load(t)
	if got, want := p.ServiceNames(), []string{"kafka", "krib", "postgres"}; !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for _, s := range p.Services {
		h := s.HealthCheck
		if h == nil || h.Disable || len(h.Test) < 2 || h.Interval == nil || h.Timeout == nil || h.Retries == nil || h.StartPeriod == nil {
			t.Errorf("%s: the health check %+v does not say test, interval, timeout, retries and start_period", s.Name, h)
		}
		if s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("%s: restart is %q", s.Name, s.Restart)
		}
	}
}

func TestKribWaitsForHealthyServers(t *testing.T) {
	needs := service(t, load(t), "krib").DependsOn
	for _, name := range []string{"kafka", "postgres"} {
		if got := needs[name].Condition; got != types.ServiceConditionHealthy {
			t.Errorf("krib waits for %s with condition %q", name, got)
		}
	}
}

// What any Dockerfile builds on is named by its digest, or is an image that the
// stand-ins' script makes on this machine.
func TestEveryBaseImageHasADigest(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy", "*", "*", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	shallow, err := filepath.Glob(filepath.Join(root, "deploy", "*", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(append(files, shallow...), filepath.Join(root, "deploy", "Dockerfile"))
	if len(files) < 5 {
		t.Fatalf("only %q are found", files)
	}
	pinned := regexp.MustCompile(`^([a-z./-]+:[0-9.]+@sha256:[0-9a-f]{64}|krib-standin/[a-z]+:[0-9.]+)$`)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		args, stages, bases := map[string]string{}, []string{}, 0
		for _, m := range regexp.MustCompile(`(?m)^(ARG|FROM|COPY --from=)\s*(\S+)(?: AS (\S+))?`).FindAllStringSubmatch(string(b), -1) {
			if m[1] == "ARG" {
				name, value, _ := strings.Cut(m[2], "=")
				args[name] = value
				continue
			}
			image := os.Expand(m[2], func(name string) string { return args[name] })
			if bases++; !slices.Contains(stages, image) && !pinned.MatchString(image) {
				t.Errorf("%s builds on %q", file, image)
			}
			stages = append(stages, m[3])
		}
		if bases == 0 {
			t.Errorf("%s builds on nothing: the search is wrong", file)
		}
	}
}

func TestImagesAreOfOneVersion(t *testing.T) {
	p := load(t)
	images := map[string]string{}
	for _, s := range p.Services {
		images[s.Name] = s.Image
		if s.Build != nil {
			for k, v := range s.Build.Args {
				if strings.HasSuffix(k, "_IMAGE") && v != nil {
					images[k] = *v
				}
			}
		}
	}
	for name, image := range images {
		if !strings.HasPrefix(image, "krib:") && !regexp.MustCompile(`^[a-z/]+:[0-9]+(\.[0-9]+)*@sha256:[0-9a-f]{64}$`).MatchString(image) {
			t.Errorf("%s is %q, which names no version and digest", name, image)
		}
	}
	// The tests of make test-containers run on what users run.
	if images["kafka"] != defaultKafka || images["postgres"] != defaultPostgres {
		t.Errorf("compose runs %s and %s, the tests %s and %s", images["kafka"], images["postgres"], defaultKafka, defaultPostgres)
	}
	dockerfile := read(t, "deploy/Dockerfile")
	for _, arg := range []string{"GO_IMAGE", "RUNTIME_IMAGE"} {
		if !strings.Contains(dockerfile, "\nARG "+arg+"="+images[arg]+"\n") {
			t.Errorf("the Dockerfile's default of %s is not %q", arg, images[arg])
		}
	}
	// The jars for machines without an engine are of the same version.
	tag, _, _ := strings.Cut(defaultKafka, "@")
	if _, version, _ := strings.Cut(tag, ":"); !strings.Contains(read(t, "deploy/kafka/pom.xml"), "<kafka.version>"+version+"</kafka.version>") {
		t.Errorf("deploy/kafka/pom.xml is of another version than %s", defaultKafka)
	}
}

func TestEveryImageCanBeReplaced(t *testing.T) {
	p := load(t, "KRIB_KAFKA_IMAGE=k:1", "KRIB_POSTGRES_IMAGE=p:1", "KRIB_GO_IMAGE=g:1", "KRIB_RUNTIME_IMAGE=r:1")
	krib := service(t, p, "krib")
	if krib.Build == nil {
		t.Fatal("krib is not built")
	}
	args := krib.Build.Args
	for name, got := range map[string]*string{
		"k:1": new(service(t, p, "kafka").Image), "p:1": new(service(t, p, "postgres").Image),
		"g:1": args["GO_IMAGE"], "r:1": args["RUNTIME_IMAGE"],
	} {
		if got == nil || *got != name {
			t.Errorf("got %v, want %s", got, name)
		}
	}
}

func TestPortsAreForThisMachineOnly(t *testing.T) {
	var targets []uint32
	for _, s := range load(t).Services {
		if s.NetworkMode != "" {
			t.Errorf("%s: network mode %q goes around the ports", s.Name, s.NetworkMode)
		}
		for _, port := range s.Ports {
			if ip, err := netip.ParseAddr(port.HostIP); err != nil || !ip.IsLoopback() {
				t.Errorf("%s: port %d is bound to %q, which others may reach", s.Name, port.Target, port.HostIP)
			}
			targets = append(targets, port.Target)
		}
	}
	slices.Sort(targets)
	if want := []uint32{8080, 9090, 9092}; !slices.Equal(targets, want) {
		t.Errorf("published are %v, want %v", targets, want)
	}
}

func TestKribIsToldWhatServeKnows(t *testing.T) {
	env := environment(t, service(t, load(t), "krib"))
	known := settings(t)
	for name := range env {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no setting of krib serve", name)
		}
	}
	for _, name := range dockerfileEnv(t) {
		if !slices.Contains(known, name) {
			t.Errorf("the Dockerfile sets %s, which is no setting of krib serve", name)
		}
	}
	for _, name := range []string{"DATABASE_URL", "KRIB_KAFKA_BROKERS", "WEBHOOK_SECRET_KEY", "KRIB_JWT_SECRET"} {
		if env[name] == "" {
			t.Errorf("krib is not told %s", name)
		}
	}
	// What internal/seal and api/auth ask for.
	for _, name := range []string{"WEBHOOK_SECRET_KEY", "KRIB_JWT_SECRET"} {
		if len(env[name]) < 16 {
			t.Errorf("%s has %d characters, and 16 are needed", name, len(env[name]))
		}
	}
}

func TestSecretsCanBeSet(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	for _, name := range []string{"POSTGRES_PASSWORD", "WEBHOOK_SECRET_KEY", "KRIB_JWT_SECRET"} {
		p := load(t, name+"="+secret)
		before := load(t)
		for _, s := range p.Services {
			old := environment(t, service(t, before, s.Name))
			for k, v := range environment(t, s) {
				if (k == name || k == "DATABASE_URL" && name == "POSTGRES_PASSWORD") && !strings.Contains(v, secret) {
					t.Errorf("%s: %s does not hold the %s that was set", s.Name, k, name)
				}
				if strings.Contains(v, secret) && !strings.Contains(old[k], "only-for-this-machine") {
					t.Errorf("%s: the default of %s does not say that it is for this machine only", s.Name, k)
				}
			}
		}
	}
}

func TestKribFindsItsServers(t *testing.T) {
	p := load(t)
	krib := environment(t, service(t, p, "krib"))
	database := environment(t, service(t, p, "postgres"))
	u, err := url.Parse(krib["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	got := []string{u.Hostname(), u.User.Username(), password, strings.TrimPrefix(u.Path, "/")}
	want := []string{"postgres", database["POSTGRES_USER"], database["POSTGRES_PASSWORD"], database["POSTGRES_DB"]}
	if !slices.Equal(got, want) {
		t.Errorf("krib dials host, user, password and database %q, and PostgreSQL has %q", got, want)
	}
	if ls := listeners(environment(t, service(t, p, "kafka"))["KAFKA_ADVERTISED_LISTENERS"]); !slices.Contains(slices.Collect(maps.Values(ls)), krib["KRIB_KAFKA_BROKERS"]) {
		t.Errorf("krib dials %s, and Kafka advertises %v", krib["KRIB_KAFKA_BROKERS"], ls)
	}
}

func TestKafkaIsOneNodeThatWorksAlone(t *testing.T) {
	p := load(t, "KRIB_KAFKA_PORT=19092")
	kafka := service(t, p, "kafka")
	env := environment(t, kafka)
	for name, want := range map[string]string{
		"KAFKA_PROCESS_ROLES":                                    "broker,controller",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "1",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                        "false",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	listen, advertised := listeners(env["KAFKA_LISTENERS"]), listeners(env["KAFKA_ADVERTISED_LISTENERS"])
	protocols := env["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"]
	controller := env["KAFKA_CONTROLLER_LISTENER_NAMES"]
	for name := range listen {
		if !strings.Contains(","+protocols, ","+name+":") {
			t.Errorf("the listener %s has no protocol in %q", name, protocols)
		}
		if _, ok := advertised[name]; ok == (name == controller) {
			t.Errorf("of the listeners %v, %v are advertised, with %s for the controller", listen, advertised, controller)
		}
	}
	if _, ok := advertised[env["KAFKA_INTER_BROKER_LISTENER_NAME"]]; !ok {
		t.Errorf("the inter broker listener %q is not advertised", env["KAFKA_INTER_BROKER_LISTENER_NAME"])
	}
	if voter := env["KAFKA_NODE_ID"] + "@" + listen[controller]; voter != env["KAFKA_CONTROLLER_QUORUM_VOTERS"] {
		t.Errorf("the voters are %q, and this node is %q", env["KAFKA_CONTROLLER_QUORUM_VOTERS"], voter)
	}
	// 16 bytes in base64 without its padding.
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(env["CLUSTER_ID"]) {
		t.Errorf("the cluster's id is %q", env["CLUSTER_ID"])
	}
	// Clients on this machine are told the port that is published.
	var published []string
	for _, port := range kafka.Ports {
		published = append(published, port.HostIP+":"+port.Published)
	}
	for _, address := range published {
		if !slices.Contains(slices.Collect(maps.Values(advertised)), address) {
			t.Errorf("%s is published, and Kafka advertises %v", address, advertised)
		}
	}
}

// A group that is away for longer than its offsets are kept starts over, so they
// must outlive the events.
func TestOffsetsAreKeptAsLongAsEvents(t *testing.T) {
	p := load(t)
	minutes, err := strconv.Atoi(environment(t, service(t, p, "kafka"))["KAFKA_OFFSETS_RETENTION_MINUTES"])
	if err != nil {
		t.Fatal(err)
	}
	window := environment(t, service(t, p, "krib"))["KRIB_REPLAY_WINDOW"]
	if window == "" {
		m := regexp.MustCompile(`"KRIB_REPLAY_WINDOW", "([^"]+)"`).FindStringSubmatch(read(t, "app/config.go"))
		if m == nil {
			t.Fatal("the default of KRIB_REPLAY_WINDOW was not found")
		}
		window = m[1]
	}
	events, err := time.ParseDuration(window)
	if err != nil {
		t.Fatal(err)
	}
	if offsets := time.Duration(minutes) * time.Minute; offsets < events {
		t.Errorf("offsets are kept for %v and events for %v", offsets, events)
	}
}

func TestDataOutlivesTheContainers(t *testing.T) {
	p := load(t)
	for name, folder := range map[string]string{
		"kafka":    environment(t, service(t, p, "kafka"))["KAFKA_LOG_DIRS"],
		"postgres": "/var/lib/postgresql/data",
	} {
		kept := slices.ContainsFunc(service(t, p, name).Volumes, func(v types.ServiceVolumeConfig) bool {
			_, named := p.Volumes[v.Source]
			return v.Type == types.VolumeTypeVolume && named && v.Target == folder
		})
		if !kept {
			t.Errorf("%s: no named volume is at %q", name, folder)
		}
	}
}

func TestKribHasNoRightsItDoesNotNeed(t *testing.T) {
	krib := service(t, load(t), "krib")
	if !krib.ReadOnly || !slices.Contains(krib.CapDrop, "ALL") || krib.Privileged || len(krib.Volumes) > 0 {
		t.Errorf("read only %v, dropped %v, privileged %v, volumes %v", krib.ReadOnly, krib.CapDrop, krib.Privileged, krib.Volumes)
	}
	m := regexp.MustCompile(`(?m)^USER ([0-9]+)`).FindStringSubmatch(read(t, "deploy/Dockerfile"))
	if m == nil || m[1] == "0" {
		t.Errorf("the image's user is not a number other than 0: %q", m)
	}
}

// settings are the variables of krib serve, as its source names them. This module
// does not import the program: its dependencies would come along.
func settings(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, file := range []string{"app/config.go", "app/serve.go"} {
		for _, m := range regexp.MustCompile(`s\.add(?:Secret)?\("([A-Z_]+)"`).FindAllStringSubmatch(read(t, file), -1) {
			out = append(out, m[1])
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d settings were found: %v", len(out), out)
	}
	return out
}

func dockerfileEnv(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(read(t, "deploy/Dockerfile")) {
		if pairs, ok := strings.CutPrefix(line, "ENV "); ok {
			for pair := range strings.FieldsSeq(pairs) {
				name, _, _ := strings.Cut(pair, "=")
				out = append(out, name)
			}
		}
	}
	return out
}

// listeners reads NAME://host:port,… into addresses by name.
func listeners(text string) map[string]string {
	out := map[string]string{}
	for l := range strings.SplitSeq(text, ",") {
		name, address, _ := strings.Cut(l, "://")
		out[name] = address
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
