package api

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestACallbackThatCannotBeStripesIsNotRead(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_900_000_000, 0)
	sum := strings.Repeat("0a", 32)
	for header, want := range map[string]bool{
		fmt.Sprintf("t=%d,v1=%s", now.Unix(), sum):                      true,
		fmt.Sprintf("v0=x,v1=%s,v1=%s,t=%d", sum, sum, now.Unix()-300):  true,
		fmt.Sprintf("t=%d,v1=short,v1=%s", now.Unix(), sum):             true, // while a secret is rolled there are two
		fmt.Sprintf("t=%d,v1=%s", now.Unix()-301, sum):                  false,
		fmt.Sprintf("t=%d,v1=%s", now.Unix(), sum[2:]):                  false,
		fmt.Sprintf("t=%d,v1=%s", now.Unix(), strings.Repeat("zz", 32)): false,
		fmt.Sprintf("t=%d,v0=%s", now.Unix(), sum):                      false,
		fmt.Sprintf("t=%d", now.Unix()):                                 false,
		"v1=" + sum:                                                     false,
		"t=,v1=" + sum:                                                  false,
		"t=99999999999999999999,v1=" + sum:                              false,
		"":                                                              false,
		fmt.Sprintf("t=%d,v1=%s,%s", now.Unix(), sum, strings.Repeat("v1=x,", 1000)): false,
	} {
		if got := mayBeStripes(header, now); got != want {
			t.Errorf("%.80q may be Stripe's: %t", header, got)
		}
	}
}
