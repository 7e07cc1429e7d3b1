package bench

import (
	"context"
	"fmt"
	"slices"
)

// memory collects sizes: of fresh starts, and after each run of the others.
type memory struct {
	wanted       bool
	fresh, after []size
}

func newMemory(o *Options) *memory { return &memory{wanted: slices.Contains(o.Only, Memory)} }

// freshStarts starts the program anew, n times, and looks at it when it has come
// to rest.
func (m *memory) freshStarts(ctx context.Context, o *Options, n int) error {
	for i := range n {
		fmt.Fprintf(o.Progress, "%s: start %d of %d\n", Memory, i+1, n+1)
		if err := m.freshStart(ctx, o); err != nil {
			return fmt.Errorf("measuring %s: %w", Memory, err)
		}
	}
	return nil
}

func (m *memory) freshStart(ctx context.Context, o *Options) (err error) {
	b, err := open(ctx, *o)
	if err != nil {
		return err
	}
	defer func() {
		if e := b.close(ctx); err == nil {
			err = e
		}
	}()
	if err := b.rest(ctx); err != nil {
		return err
	}
	return m.idle(b.meter)
}

func (m *memory) idle(of meter) error { return m.look(of, &m.fresh) }

// loaded is called after a run of another measurement.
func (m *memory) loaded(of meter) error { return m.look(of, &m.after) }

func (m *memory) look(of meter, into *[]size) error {
	if !m.wanted {
		return nil
	}
	s, err := of.memory()
	*into = append(*into, s)
	return err
}

const mebibyte = 1 << 20

func (m *memory) report(o *Options) *Measurement {
	out := &Measurement{Name: Memory, Title: "proportional set size"}
	most := 0.0
	for _, when := range []struct {
		name  string
		sizes []size
	}{{"after a start", m.fresh}, {"after a run of another measurement", m.after}} {
		for _, s := range when.sizes {
			out.add("Krib, "+when.name, "MiB", float64(s.krib)/mebibyte)
			if !o.GivenPostgres {
				out.add("its Postgres, "+when.name, "MiB", float64(s.postgres)/mebibyte)
			}
			out.add("in all, "+when.name, "MiB", float64(s.all())/mebibyte)
			most = max(most, float64(s.all())/mebibyte)
		}
	}
	out.mark(most < 400, number(most)+" MiB at most", "below 400 MiB in all, always")
	out.note("%d fresh starts, and %d looks after runs of the other measurements, all at rest. There is no raw limit.", len(m.fresh), len(m.after))
	return out
}
