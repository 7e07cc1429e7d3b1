package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// binaries is a folder with postgres and initdb in it.
type binaries struct {
	dir   string
	major int
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// findBinaries looks on the PATH, then where Debian installs PostgreSQL, newest
// first, then brings one. A cluster can be read by its own major version only;
// zero takes any.
func findBinaries(ctx context.Context, major int) (binaries, error) {
	var seen []string
	for _, dir := range installed() {
		b, err := inspect(ctx, dir)
		if err != nil {
			continue
		}
		if major == 0 || b.major == major {
			return b, nil
		}
		seen = append(seen, fmt.Sprintf("%d in %s", b.major, dir))
	}
	if len(seen) > 0 {
		return binaries{}, fmt.Errorf("the data is of PostgreSQL %d and this machine has %s: install %[1]d, or start with another folder",
			major, strings.Join(seen, ", "))
	}
	b, err := download(ctx)
	if err != nil {
		return b, fmt.Errorf("no PostgreSQL on the PATH or in /usr/lib/postgresql, and downloading one did not work; "+
			"apt-get install postgresql, or set DATABASE_URL: %w", err)
	}
	if major != 0 && b.major != major {
		return b, fmt.Errorf("the data is of PostgreSQL %d, and the one to download is %d: install %[1]d, or start with another folder", major, b.major)
	}
	return b, nil
}

func installed() []string {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(packaged, func(a, b string) int { return cmp.Compare(packagedMajor(b), packagedMajor(a)) })
	return append(dirs, packaged...)
}

// packagedMajor reads 15 from /usr/lib/postgresql/15/bin.
func packagedMajor(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// inspect runs the server for its version, which also proves that it runs here.
func inspect(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return b, fmt.Errorf("looking for initdb: %w", err)
	}
	out, err := exec.CommandContext(ctx, b.path("postgres"), "--version").Output()
	if err != nil {
		return b, fmt.Errorf("running postgres --version: %w", err)
	}
	if _, version, ok := strings.Cut(string(out), "(PostgreSQL) "); ok {
		b.major = leadingNumber(version)
	}
	if b.major == 0 {
		return b, fmt.Errorf("reading the version of postgres from %q", out)
	}
	return b, nil
}

func leadingNumber(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// cacheFolder is the user's own; root's would be closed to the user that runs
// the server.
func cacheFolder() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache", nil
	}
	return os.UserCacheDir()
}

// download lets the embedded-postgres library bring its binaries into the cache,
// once per machine. The library takes no context, so a cancelled download goes on
// in the background until it ends by itself.
func download(ctx context.Context) (binaries, error) {
	cache, err := cacheFolder()
	if err != nil {
		return binaries{}, fmt.Errorf("finding the cache folder: %w", err)
	}
	dir := filepath.Join(cache, "krib", "postgres")
	if b, err := inspect(ctx, filepath.Join(dir, "bin")); err == nil {
		return b, nil
	}
	done := make(chan error, 1)
	go func() { done <- bring(dir) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return binaries{}, ctx.Err()
	}
	b, missing := inspect(ctx, filepath.Join(dir, "bin"))
	if missing != nil {
		return b, errors.Join(err, missing)
	}
	return b, nil
}

// bring makes a scratch cluster, because the library fetches binaries in no other
// way. As root the cluster cannot start and the binaries are there all the same,
// so the error tells nothing unless they are missing.
func bring(dir string) error {
	scratch, err := os.MkdirTemp("", "krib-postgres-")
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	port, err := freePort()
	if err != nil {
		return err
	}
	p := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		CachePath(dir).BinariesPath(dir).RuntimePath(filepath.Join(scratch, "run")).
		DataPath(filepath.Join(scratch, "data")).Port(uint32(port)).Logger(io.Discard))
	if err := p.Start(); err != nil {
		return fmt.Errorf("downloading postgres: %w", err)
	}
	return p.Stop()
}

// freePort is free now; somebody may take it before postgres does.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
