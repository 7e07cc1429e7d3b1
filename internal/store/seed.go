package store

import (
	"context"
	"fmt"

	"github.com/krib-ai/krib/schemas"
)

// A Seed is the data of a first start: one agent with one key, one host, one
// home.
type Seed struct {
	AgentID  schemas.AgentID
	KeyID    schemas.KeyID
	KeyHash  []byte
	Prefix   string
	Scopes   []string
	HostID   schemas.HostID
	Property Property
}

// PlantSeed writes what is missing of the seed and leaves what is there. It needs
// a DB in RoleJobs.
func (t *Tx) PlantSeed(ctx context.Context, s Seed) error {
	p := s.Property
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`insert into agents (id, name) values ($1, 'Development agent') on conflict do nothing`, []any{string(s.AgentID)}},
		{`insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes, platform, rate_limit_per_minute)
		  values ($1, $2, 'dev', $3, $4, $5, true, 0) on conflict do nothing`, []any{string(s.KeyID), string(s.AgentID), s.KeyHash, s.Prefix, s.Scopes}},
		{`insert into hosts (id, name) values ($1, 'Development host') on conflict do nothing`, []any{string(s.HostID)}},
		{`insert into host_settings (host_id) values ($1) on conflict do nothing`, []any{string(s.HostID)}},
		{
			`insert into properties (id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms, bathrooms,
		    max_guests, status, currency, price_per_night, cleaning_fee, service_fee_bp, tax_per_night, time_zone)
		  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'active', $14, $15, $16, $17, $18, $19) on conflict do nothing`,
			[]any{
				string(p.ID), string(s.HostID), p.Title, p.Address, p.City, p.State, p.Country, p.Latitude, p.Longitude, p.Type, p.Bedrooms, p.Bathrooms,
				p.MaxGuests, p.Currency, int64(p.PricePerNight), int64(p.CleaningFee), p.ServiceFeeBP, int64(p.TaxPerNight), p.TimeZone,
			},
		},
	} {
		if _, err := t.tx.Exec(ctx, q.sql, q.args...); err != nil {
			return fmt.Errorf("planting the seed: %w", err)
		}
	}
	return nil
}
