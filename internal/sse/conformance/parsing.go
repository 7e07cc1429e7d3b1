package conformance

import (
	"strings"
	"time"
)

// A Message is an event as a client hands it on: what MessageEvent has.
type Message struct {
	ID, Name, Data string // a Name is empty where the standard says "message"
}

// A Reading is how a client must read: what a body dispatches, the delay that it
// asks for, and the position behind it. From is the file of web-platform-tests.
type Reading struct {
	Name, From, Body string
	Want             []Message
	Retry            time.Duration
}

func message(data string) Message { return Message{Data: data} }

// Readings are the cases of web-platform-tests that are about bytes.
func Readings() []Reading {
	return []Reading{
		{Name: "a byte order mark at the beginning is no part of it", From: "format-bom", Body: "\uFEFFdata:1\n\n\uFEFFdata:2\n\ndata:3\n\n", Want: []Message{message("1"), message("3")}},
		{Name: "of two byte order marks one is", From: "format-bom-2", Body: "\uFEFF\uFEFFdata:1\n\ndata:2\n\ndata:3\n\n", Want: []Message{message("2"), message("3")}},
		{Name: "comments are passed", From: "format-comments", Body: "data:1\n:\x00\n:\ndata:2\n:" + long + "\ndata:3\n:data:fail\n:" + long + "\ndata:4\n\n", Want: []Message{message("1\n2\n3\n4")}},
		{Name: "what has no blank line behind it is nothing", From: "format-data-before-final-empty-line", Body: "retry:1000\ndata:test1\n\nid:test\ndata:test2", Want: []Message{message("test1")}, Retry: time.Second},
		{Name: "nor with its own line end", From: "format-data-before-final-empty-line", Body: "data:test1\n\nid:test\ndata:test2\n", Want: []Message{message("test1")}},
		{Name: "data may be empty, and have many lines", From: "format-field-data", Body: "data:\n\ndata\ndata\n\ndata:test\n\n", Want: []Message{message(""), message("\n"), message("test")}},
		{Name: "a name is of its own event", From: "format-field-event", Body: "event:test\ndata:x\n\ndata:x\n\n", Want: []Message{{Name: "test", Data: "x"}, message("x")}},
		{Name: "an empty name is none", From: "format-field-event-empty", Body: "event: \ndata:data\n\n", Want: []Message{message("data")}},
		{Name: "an event without data is none, and its name is not the next one's", From: "event-data", Body: "event:test\n\ndata:x\n\n", Want: []Message{message("x")}},
		{Name: "an id stays until another one comes", From: "format-field-id, format-field-id-2", Body: "id:1\ndata:a\n\ndata:b\n\nid:2\ndata:c\n\n", Want: []Message{{"1", "", "a"}, {"1", "", "b"}, {"2", "", "c"}}},
		{Name: "an empty id takes it away", From: "format-field-id-3", Body: "id:1\ndata:a\n\nid\ndata:b\n\nid:\ndata:c\n\n", Want: []Message{{"1", "", "a"}, message("b"), message("c")}},
		{Name: "an id with NUL is passed", From: "format-field-id-null", Body: "id:1\ndata:a\n\nid:\x00\x00\ndata:b\n\nid:2\x00\ndata:c\n\n", Want: []Message{{"1", "", "a"}, {"1", "", "b"}, {"1", "", "c"}}},
		{Name: "an id without data is a position all the same", From: "the standard, 9.2.6", Body: "id:1\n\ndata:a\n\n", Want: []Message{{"1", "", "a"}}},
		{Name: "fields are found by their exact names, and one space is taken away", From: "format-field-parsing", Body: "data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n", Want: []Message{message("\x00\n 2\n1\n3\n\n4")}},
		{Name: "a retry is a number of milliseconds", From: "format-field-retry", Body: "retry:03000\ndata:x\n\n", Want: []Message{message("x")}, Retry: 3 * time.Second},
		{Name: "a retry that is none is passed", From: "format-field-retry-bogus", Body: "retry:3000\nretry:1000x\nretry:-1\nretry:+1\nretry:1e3\nretry: 1.5\ndata:x\n\n", Want: []Message{message("x")}, Retry: 3 * time.Second},
		{Name: "an empty retry is passed", From: "format-field-retry-empty", Body: "retry:3000\nretry\ndata:test\n\n", Want: []Message{message("test")}, Retry: 3 * time.Second},
		{Name: "fields that nobody knows are passed", From: "format-field-unknown", Body: "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", Want: []Message{message("test\n\ntest")}},
		{Name: "of leading spaces one is taken away, and no tab", From: "format-leading-space", Body: "data:\ttest\rdata: \ndata:test\n\n", Want: []Message{message("\ttest\n\ntest")}},
		{Name: "CR, LF and both together end lines", From: "format-newlines", Body: "data:test\r\ndata\ndata:test\r\n\r", Want: []Message{message("test\n\ntest")}},
		{Name: "CR alone does", From: "format-newlines", Body: "id:1\rdata:a\r\rdata:b\r\r", Want: []Message{{"1", "", "a"}, {"1", "", "b"}}},
		{Name: "no other character does", From: "format-newlines", Body: "data:a\u2028b\u0085c\vd\fe\n\n", Want: []Message{message("a\u2028b\u0085c\vd\fe")}},
		{Name: "NUL is a character as others are, in data", From: "format-null-character", Body: "data:\x00\n\n\n\n", Want: []Message{message("\x00")}},
		{Name: "what is no UTF-8 is replaced, and the rest stays", From: "format-utf-8", Body: "data:ok\xff…\n\n", Want: []Message{message("ok\uFFFD…")}},
	}
}

// long is a line that does not fit into what a client reads at once.
var long = strings.Repeat("x", 9000)
