package embedded

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// From linux/capability.h. Reading and searching is enough, as what is written
// belongs to the account; but containers often have only the wider one.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
)

// passage is the narrowest capability we hold that opens closed folders.
func passage() ([]uintptr, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("reading our capabilities: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "CapPrm:")
	line, _, _ := strings.Cut(rest, "\n")
	held, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("reading our capabilities: %w", err)
	}
	for _, c := range []uintptr{capDACReadSearch, capDACOverride} {
		if held&(1<<c) != 0 {
			return []uintptr{c}, nil
		}
	}
	return nil, errors.New("neither CAP_DAC_READ_SEARCH nor CAP_DAC_OVERRIDE is held")
}

func lend(attr *syscall.SysProcAttr, caps []uintptr) { attr.AmbientCaps = caps }
