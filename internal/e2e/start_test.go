//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

// fails runs the program, which must end with an error, and returns what it says.
func fails(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() < 1 {
		t.Fatalf("ended with %v, want a failure\n%s", err, stderr.String())
	}
	return stderr.String()
}

// oneLine is what a start that cannot be done must say: one line, no stack.
func oneLine(t *testing.T, said string, parts ...string) {
	t.Helper()
	if strings.Count(strings.TrimSpace(said), "\n") != 0 {
		t.Errorf("not one line:\n%s", said)
	}
	for _, p := range parts {
		if !strings.Contains(said, p) {
			t.Errorf("it does not name %q: %s", p, said)
		}
	}
}

func TestAPortInUseIsOneClearLine(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	taken := ln.Addr().String()
	for flag, what := range map[string]string{"--http-addr": "API", "--admin-addr": "admin", "--receiver-addr": "receiver", "--kafka-addr": ""} {
		args := append(devArgs(t.TempDir()), flag, taken)
		oneLine(t, fails(t, nil, args...), taken, what, "in use")
	}
}

func TestALockedDataFolderIsOneClearLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := startBinary(t, dir, "DATABASE_URL="+testenv.Database(t))
	defer k.stop()
	oneLine(t, fails(t, []string{"DATABASE_URL=" + k.DatabaseURL}, devArgs(dir)...), dir, "in use by process")
}

func TestADatabaseThatIsNotThereIsOneClearLine(t *testing.T) {
	t.Parallel()
	said := fails(t, []string{"DATABASE_URL=postgres://nobody:s3cret@127.0.0.1:1/none"}, devArgs(t.TempDir())...)
	oneLine(t, said, "127.0.0.1")
	if strings.Contains(said, "s3cret") {
		t.Errorf("the password is shown: %s", said)
	}
}

func TestNonsenseIsRefusedWithItsName(t *testing.T) {
	t.Parallel()
	for env, part := range map[string]string{
		"KRIB_RETRY_TIERS=5s,banana": "KRIB_RETRY_TIERS", "WEBHOOK_TIMEOUT=never": "WEBHOOK_TIMEOUT", "SSE_MAX_CONNECTIONS=-1": "SSE_MAX_CONNECTIONS",
		"KRIB_TOPIC_PARTITIONS=0": "KRIB_TOPIC_PARTITIONS", "LOG_LEVEL=loud": "log level",
		"KRIB_SMTP_URL=mail.example.com": "KRIB_SMTP_URL", "KRIB_SMTP_URL=smtp://mail.example.com": "KRIB_MAIL_FROM",
		"KRIB_CORS_ORIGINS=https://*.example.com": "KRIB_CORS_ORIGINS", "KRIB_CORS_ORIGINS=https://a.example.com/": "KRIB_CORS_ORIGINS",
		"KRIB_MAIL_FROM=nobody": "KRIB_MAIL_FROM", "KRIB_DASHBOARD_URL=krib.example.com": "KRIB_DASHBOARD_URL",
	} {
		oneLine(t, fails(t, []string{env}, devArgs(t.TempDir())...), part)
	}
	if said := fails(t, []string{"KRIB_SMTP_URL=smtp://user:s3cret@mail.example.com:port"}, devArgs(t.TempDir())...); strings.Contains(said, "s3cret") {
		t.Errorf("the password is shown: %s", said)
	}
	oneLine(t, fails(t, nil, "serve"), "KRIB_KAFKA_BROKERS")
	oneLine(t, fails(t, []string{"DATABASE_URL=postgres://x", "KRIB_KAFKA_BROKERS=127.0.0.1:1"}, "serve", "--roles=push"), "role api")
}

// One data folder is one identity, whatever happens between the starts: a stop, a
// kill that leaves Postgres running, and only --reset begins anew.
func TestADataFolderKeepsItsIdentityAndDataOverStopsAndKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopPostgres(t, dir) })
	first := startBinary(t, dir)
	id := first.book(t, 0)
	first.stop()
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dev.json is there after a clean stop: %v", err)
	}
	second := startBinary(t, dir)
	second.kill()
	third := startBinary(t, dir)
	for _, k := range []*krib{second, third} {
		if k.APIKey != first.APIKey || k.HostID != first.HostID || k.PropertyID != first.PropertyID {
			t.Errorf("another identity: %+v", k)
		}
	}
	if a := third.agent(t, "GET", "/api/v1/external/bookings/"+id+"/status", nil); a.text("status") != "pending" {
		t.Errorf("the booking is not there: %s", a.Raw)
	}
	third.host(t, "GET", "/api/v1/hosts/"+first.HostID+"/notifications", nil)
	third.kill()
	fresh := startBinaryWith(t, dir, append(devArgs(dir), "--reset"))
	if fresh.APIKey == first.APIKey {
		t.Error("--reset kept the identity")
	}
	if a, err := fresh.try(t.Context(), "GET", "/api/v1/external/bookings/"+id+"/status", fresh.APIKey, nil); err != nil || a.Status != 404 {
		t.Errorf("--reset kept the booking: %v, %v", a, err)
	}
	fresh.stop()
}
