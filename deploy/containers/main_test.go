package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheCommandIsToldTheServersAndItsStatusIsAnswered(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := servers{brokers: "127.0.0.1:1", url: "postgres://krib@127.0.0.1:2/krib"}
	var out, diag bytes.Buffer
	code, err := command(t.Context(), dir, []string{"sh", "-c", `echo "$KRIB_TEST_KAFKA_BROKERS $DATABASE_URL $(pwd)"; echo aside >&2; exit 7`}, s.environ(), &out, &diag)
	if err != nil {
		t.Fatal(err)
	}
	if want := s.brokers + " " + s.url + " " + dir + "\n"; code != 7 || out.String() != want || diag.String() != "aside\n" {
		t.Errorf("status %d, output %q and %q, want 7, %q and aside", code, &out, &diag, want)
	}
}

func TestACommandThatIsNotThereIsSaid(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	code, err := command(t.Context(), ".", []string{missing}, nil, io.Discard, io.Discard)
	if code != 1 || err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("status %d, error %v", code, err)
	}
}

// The inner shell stands for a test binary below go test.
func TestAnInterruptReachesTheCommandsOwnChildren(t *testing.T) {
	const inner = `trap "echo inner; exit" INT; echo up; while :; do sleep 0.1; done`
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, interrupt := context.WithTimeout(t.Context(), 30*time.Second)
	defer interrupt()
	ended := make(chan int, 1)
	go func() {
		code, err := command(ctx, ".", []string{"sh", "-c", `trap "exit 3" INT; sh -c '` + inner + `'`}, nil, w, io.Discard)
		if err != nil {
			t.Error(err)
		}
		_ = w.Close()
		ended <- code
	}()
	up := make([]byte, len("up\n"))
	if _, err := io.ReadFull(r, up); err != nil {
		t.Fatal(err)
	}
	interrupt()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 3 || string(rest) != "inner\n" {
		t.Errorf("status %d after %q, want 3 after inner", code, rest)
	}
}

func TestAWrongUseIsSaid(t *testing.T) {
	for _, args := range [][]string{{}, {"-C", "/"}, {"--"}, {"-unknown", "true"}} {
		var diag bytes.Buffer
		if code := run(t.Context(), args, nil, io.Discard, &diag); code != 2 || !strings.Contains(diag.String(), "usage:") {
			t.Errorf("%q: status %d, said %q", args, code, &diag)
		}
	}
}

func TestAnEngineThatDoesNotAnswerIsOneClearLine(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // connects, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	t.Setenv("DOCKER_HOST", "tcp://"+ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // in the place of engineWithin
	defer cancel()
	var diag bytes.Buffer
	code := run(ctx, []string{"--", "true"}, nil, io.Discard, &diag)
	said := diag.String()
	if code != 1 || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "containers: no container engine answers") || !strings.Contains(said, "DOCKER_HOST") {
		t.Errorf("status %d, said %q", code, said)
	}
}
