// Package arch holds the laws of the house as tests: which package may import
// which, who may speak SQL or read the environment, and that every package says
// what it is for. It has no code of its own, and nothing imports it.
//
// The table of imports is in law_test.go. A package that is not in the table
// fails: where it belongs is decided there, before its first import.
package arch
