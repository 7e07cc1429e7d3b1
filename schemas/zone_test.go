package schemas_test

import (
	"archive/zip"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/krib-ai/krib/schemas"
)

// zonesOfGo are the names in the archive from which time/tzdata is made.
func zonesOfGo(t *testing.T) []string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	names := map[string]bool{}
	for _, f := range r.File {
		if !strings.HasSuffix(f.Name, "/") && f.Name != "Factory" {
			names[f.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func TestZonesAreThoseThatGoEmbeds(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for line := range strings.Lines(string(file)) {
		if !strings.HasPrefix(line, "#") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff(zonesOfGo(t), ours); diff != "" {
		t.Errorf("zones.txt is not what Go embeds (-go +zones.txt):\n%s", diff)
	}
	for _, name := range ours {
		if _, err := schemas.LoadZone(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a machine has beside the zones is no zone, and a name has one spelling.
func TestZoneIsANameOfTheDatabaseWhateverTheMachineHas(t *testing.T) {
	// A machine with all of it: the file of one zone under each name.
	folder := t.TempDir()
	wrong := []string{
		"posixrules", "localtime", "Factory", "posix/Europe/Berlin", "right/UTC", "europe/berlin", "ASIA/DUBAI", "Utc", "tzdata.zi",
		"Europe/Berlin.bak", "leapseconds",
	}
	data := tzif(t)
	for _, name := range wrong {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ZONEINFO", folder) // read once for a process, so what follows shows whether it was early enough
	if _, err := time.LoadLocation("posixrules"); err != nil {
		t.Logf("this process had read ZONEINFO before: %v", err)
	}
	wrong = append(wrong, "", "Local", "local", ".", "..", "Europe", "Europe/", "/Europe/Berlin", "Europe//Berlin", "../UTC", " UTC",
		"UTC ", "Europe/Berlin\x00", "Europe/K\u00f6ln", "UTC+4", "+04:00", "# ", strings.Repeat("A", 4096))
	for _, name := range wrong {
		if z, err := schemas.LoadZone(name); err == nil {
			t.Errorf("%q is taken for %v", name, z)
		}
		if z := schemas.StoredZone(name); z != time.UTC {
			t.Errorf("%q as stored is %v, want UTC", name, z)
		}
	}
	for _, name := range []string{"UTC", "Asia/Dubai", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "EST5EDT"} {
		if z, err := schemas.LoadZone(name); err != nil || z.String() != name {
			t.Errorf("%s: %v, %v", name, z, err)
		}
	}
}

// tzif is a zone's file: one offset and nothing else, as RFC 9636 has it.
func tzif(t *testing.T) []byte {
	t.Helper()
	head := append([]byte("TZif2"), make([]byte, 15)...)
	counts := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4}
	body := []byte{0, 0, 0, 0, 0, 0, 'A', 'A', 'A', 0}
	one := slices.Concat(head, counts, body)
	data := slices.Concat(one, one, []byte("\nAAA0\n"))
	if _, err := time.LoadLocationFromTZData("AAA", data); err != nil {
		t.Fatal(err)
	}
	return data
}
