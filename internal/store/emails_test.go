package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/testenv"
)

// The sink sends, and changes nothing of what it was given to send; of hosts'
// settings it sees who wants mail. Housekeeping forgets, and writes nothing.
func TestMailIsTheSinksAndNotAllOfIt(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	exec(t, database, `insert into hosts (id, name) values ('host_a', 'A'), ('host_b', 'B'), ('host_c', 'C')`)
	exec(t, database, `insert into host_settings (host_id, email, email_notifications) values ('host_a', 'a@example.com', true), ('host_b', 'b@example.com', false), ('host_c', '', true)`)
	exec(t, database, `insert into emails (id, host_id, recipient, content, urgent, happened_at, due_at) values ('ntf_a', 'host_a', '', '{}', false, now(), now())`)
	const all = `select host_id from krib_mailboxes`
	for _, c := range []struct {
		role, sql string
		rows      int64 // -1 for a refusal
	}{
		{"krib_sink", all, 1},
		{"krib_sink", `select id from emails`, 1},
		{"krib_sink", `update emails set state = 'sent'`, 1},
		{"krib_sink", `update email_turns set next_at = now()`, 1},
		{"krib_sink", `update emails set recipient = 'c@example.com', host_id = ''`, -1},
		{"krib_sink", `update emails set content = '{}'`, -1},
		{"krib_sink", `delete from emails`, -1},
		{"krib_sink", `delete from email_turns`, -1},
		{"krib_sink", `select email from host_settings`, -1},
		{"krib_sink", `update host_settings set email = 'c@example.com'`, -1},
		{"krib_jobs", `update emails set state = 'sent'`, -1},
		{"krib_jobs", `insert into emails select * from emails`, -1},
		{"krib_jobs", all, -1},
		{"krib_jobs", `delete from emails`, 1},
		{"krib_api", all, -1},
		{"krib_api", `select id from emails`, -1},
		{"krib_api", `select next_at from email_turns`, -1},
		{"krib_relay", all, -1},
		{"krib_relay", `select id from emails`, -1},
	} {
		conn := connect(t, database)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `set role `+pgx.Identifier{c.role}.Sanitize()); err != nil {
			t.Fatal(err)
		}
		tag, err := tx.Exec(t.Context(), c.sql)
		if c.rows < 0 && !refused(err) || c.rows >= 0 && (err != nil || tag.RowsAffected() != c.rows) {
			t.Errorf("%s: %s: %d rows, %v", c.role, c.sql, tag.RowsAffected(), err)
		}
		_ = tx.Rollback(t.Context())
		_ = conn.Close(t.Context())
	}
}
