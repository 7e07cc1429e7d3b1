package notifications

import (
	"slices"
	"strings"

	"github.com/krib-ai/krib/internal/store"
)

// sortByID puts rows in the one order in which every writer takes their
// locks, so that two batches which share a row cannot deadlock.
func sortByID(rows []store.LoggedNotification) {
	slices.SortStableFunc(rows, func(a, b store.LoggedNotification) int { return strings.Compare(string(a.ID), string(b.ID)) })
}
