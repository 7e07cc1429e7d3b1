package app

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// An identity is what stays the same over the restarts of one data folder: who
// the seed's people are and which secrets they have. It lies in the folder in
// clear, for development only.
type identity struct {
	APIKey     string             `json:"api_key"`
	KeyID      schemas.KeyID      `json:"key_id"`
	AgentID    schemas.AgentID    `json:"agent_id"`
	HostID     schemas.HostID     `json:"host_id"`
	PropertyID schemas.PropertyID `json:"property_id"`
	JWTSecret  string             `json:"jwt_secret"`
	MasterKeys string             `json:"master_keys"`
}

const identityFile = "identity.json"

func loadIdentity(dir string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := newIdentity()
		return id, writeJSON(path, id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil || id.APIKey == "" || id.MasterKeys == "" {
		return nil, fmt.Errorf("%s is damaged; start with --reset, which deletes everything in %s", path, dir)
	}
	return &id, nil
}

func newIdentity() *identity {
	var master, jwt [32]byte
	_, _ = rand.Read(master[:]) // never fails since Go 1.24
	_, _ = rand.Read(jwt[:])
	key, _, _ := schemas.NewAPIKey("dev")
	return &identity{
		APIKey: key.Reveal(), KeyID: schemas.NewKeyID(), AgentID: schemas.NewAgentID(), HostID: schemas.NewHostID(),
		PropertyID: schemas.NewPropertyID(), JWTSecret: hex.EncodeToString(jwt[:]),
		MasterKeys: "dev:" + base64.StdEncoding.EncodeToString(master[:]),
	}
}

// seed is one home in Dubai: two nights are AED 950.00.
func (id *identity) seed() store.Seed {
	lat, lon := 25.0805, 55.1403
	prefix := id.APIKey[:min(len(id.APIKey), 13)]
	return store.Seed{
		AgentID: id.AgentID, KeyID: id.KeyID, KeyHash: schemas.HashAPIKey(id.APIKey), Prefix: prefix,
		Scopes: schemas.Scopes(),
		HostID: id.HostID,
		Property: store.Property{
			ID: id.PropertyID, Title: "Marina View Apartment", Address: "12 Al Marsa Street", City: "Dubai", State: "Dubai", Country: "AE",
			Latitude: &lat, Longitude: &lon, Type: "apartment", Bedrooms: 2, Bathrooms: 2, MaxGuests: 4, Currency: "AED",
			PricePerNight: 42500, CleaningFee: 4450, ServiceFeeBP: 300, TaxPerNight: 1500, TimeZone: "Asia/Dubai",
		},
	}
}

// writeJSON replaces a file as a whole: a reader sees the old or the new one.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
