package schemas

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a zone's data where the machine has none
)

// zones.txt says where its names come from and of which date they are.
//
//go:embed zones.txt
var zoneNames string

var zones = sync.OnceValue(func() map[string]*zone {
	all := map[string]*zone{}
	for line := range strings.Lines(zoneNames) {
		if name := strings.TrimSpace(line); !strings.HasPrefix(name, "#") {
			all[name] = &zone{name: name}
		}
	}
	return all
})

type zone struct {
	name string
	once sync.Once
	loc  *time.Location
	err  error
}

// LoadZone is the zone of a name in the IANA time zone database, exactly as it is
// written there. Which names exist does not depend on the machine: a file beside the
// zones (posixrules, localtime), a name in other letters on a file system that takes
// them for the same, "Local" and "" are refused everywhere. A zone is loaded once.
func LoadZone(name string) (*time.Location, error) {
	z, ok := zones()[name]
	if !ok {
		return nil, fmt.Errorf("%.64q is not a time zone; a name is one of the IANA database, as Asia/Dubai", name)
	}
	z.once.Do(func() { z.loc, z.err = time.LoadLocation(z.name) })
	return z.loc, z.err
}

// StoredZone is the zone of a name that was checked when it was stored, perhaps by a
// release that took other names: UTC stands in for those.
func StoredZone(name string) *time.Location {
	z, err := LoadZone(name)
	if err != nil {
		return time.UTC
	}
	return z
}
