package schemas

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed v1/*.json
var files embed.FS

// Schema is the JSON Schema (2020-12) of a topic's value, by its name without
// ".json". Its $id is what ce_dataschema says on every record.
func Schema(name string) ([]byte, error) {
	b, err := files.ReadFile("v1/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("reading the schema %q: %w", name, err)
	}
	return b, nil
}

// SchemaNames lists the schemas in the order of their names.
func SchemaNames() []string {
	entries, _ := files.ReadDir("v1") // embedded: it is there, and sorted
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".json")
	}
	return names
}
