package app_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/krib-ai/krib/app"
)

func TestALimitOfHostsIsASettingOfTheProcess(t *testing.T) {
	for _, command := range []string{"serve", "dev"} {
		for env, bad := range map[string][]string{
			"KRIB_HOST_WRITE_RATE": {"0", "-1", "NaN", "Inf", "10/s"}, "KRIB_HOST_READ_RATE": {"0.001", "1e9", "fast"},
			"KRIB_HOST_WRITE_BURST": {"0", "2.5"}, "KRIB_HOST_READ_BURST": {"-3", "1000001"},
			"KRIB_PENDING_NIGHTS": {"-1", "90d", "1000001"}, "KRIB_PENDING_REQUESTS": {"-1", "many", "0.5"},
		} {
			for _, v := range bad {
				var out, stderr bytes.Buffer
				t.Setenv(env, v)
				code := app.Main([]string{command}, &out, &stderr)
				if said := stderr.String(); code != 2 || !strings.Contains(said, env) {
					t.Errorf("%s with %s=%s ends with %d: %s", command, env, v, code, said)
				}
			}
			t.Setenv(env, "")
		}
	}
}
