// Follows streams by the rules of ops/protocol.md: go build reader.go && ./reader KEY AFTER MARK, or such lines on stdin.
// Go 1.19; `go run` would make 1 of every exit code but 0.
// Prints a line of JSON per event. Exit code: 0 at the end, 3 when a stream was gone, 4 when nobody ends it and
// its deadline passed 60 s ago (READER_PATIENCE), 1 when REDIS_URL has not answered for 30 s.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

var terminal = map[string]bool{"completed": true, "failed": true, "cancelled": true, "expired": true}

// begins tells behind which types an attempt's numbers begin.
var begins = map[string]bool{"restarted": true, "continued": true}

// A server is a connection that is made again when it breaks.
type server struct {
	url    *url.URL
	socket net.Conn
	input  *bufio.Reader
}

// call returns the reply to a command. It is asked again on a new connection: to read twice does no harm.
func (s *server) call(words ...string) any {
	for giveUp := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := s.connect()
		if err == nil {
			var reply any
			if reply, err = s.ask(words...); err == nil {
				return reply
			}
		}
		if s.socket != nil {
			s.socket.Close()
			s.socket = nil
		}
		if time.Now().After(giveUp) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (s *server) connect() error {
	if s.socket != nil {
		return nil
	}
	port := s.url.Port()
	if port == "" {
		port = "6379"
	}
	socket, err := net.DialTimeout("tcp", net.JoinHostPort(s.url.Hostname(), port), 5*time.Second)
	if err != nil {
		return err
	}
	s.socket, s.input = socket, bufio.NewReader(socket)
	if password, given := s.url.User.Password(); given {
		user := s.url.User.Username()
		if user == "" {
			user = "default"
		}
		if _, err = s.ask("AUTH", user, password); err != nil {
			return err
		}
	}
	database := strings.TrimPrefix(s.url.Path, "/")
	if database == "" {
		database = "0"
	}
	_, err = s.ask("SELECT", database)
	return err
}

func (s *server) ask(words ...string) (any, error) {
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	s.socket.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(s.socket, command.String()); err != nil {
		return nil, err
	}
	return s.reply()
}

// reply reads one RESP2 reply: a string, a []any of replies, or nil.
func (s *server) reply() (any, error) {
	line, err := s.input.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, line := line[0], strings.TrimSuffix(line[1:], "\r\n")
	size, _ := strconv.Atoi(line)
	switch {
	case kind == '-':
		return nil, errors.New(line)
	case kind == '$' && size >= 0:
		text := make([]byte, size+2)
		_, err = io.ReadFull(s.input, text)
		return string(text[:size]), err
	case kind == '*' && size >= 0:
		items := make([]any, size)
		for i := range items {
			if items[i], err = s.reply(); err != nil {
				return nil, err
			}
		}
		return items, nil
	case size < 0:
		return nil, nil
	}
	return line, nil
}

type event struct {
	Stream string            `json:"stream"`
	ID     string            `json:"id"`
	Type   string            `json:"type"`
	Fields map[string]string `json:"fields"`
}

// n is the number within the attempt; 0 for what no attempt wrote.
func (e event) n() int {
	n, _ := strconv.Atoi(e.Fields["n"])
	return n
}

// goesOn tells whether the event goes on with what was shown last: an attempt's entry number seen, -1 when nobody knows.
func (e event) goesOn(attempt string, seen int) bool {
	if e.Type != "continued" {
		return e.n() <= 1 || e.Fields["attempt"] == attempt
	}
	before, _ := strconv.Atoi(e.Fields["attempt"])
	return seen < 0 || attempt == strconv.Itoa(before-1) && e.Fields["kept"] == strconv.Itoa(seen)
}

// ends tells whether the event is the last one for a reader with this leave mark.
func (e event) ends(mark string) bool {
	return terminal[e.Type] || e.Type == "left" && e.Fields["mark"] == mark
}

// events returns the entries of a reply to XRANGE, XREVRANGE or XREAD.
func events(stream string, reply any) (found []event) {
	entries, _ := reply.([]any)
	for _, entry := range entries {
		pair := entry.([]any)
		made := event{Stream: stream, ID: pair[0].(string), Fields: map[string]string{}}
		flat := pair[1].([]any)
		for i := 0; i+1 < len(flat); i += 2 {
			made.Fields[flat[i].(string)] = flat[i+1].(string)
		}
		made.Type = made.Fields["type"]
		found = append(found, made)
	}
	return found
}

// overdue tells whether nobody ends what should have ended, by the server's clock.
func overdue(s *server, stream string, newest event) bool {
	patience, err := strconv.Atoi(os.Getenv("READER_PATIENCE"))
	if err != nil {
		patience = 60
	}
	first := events(stream, s.call("XRANGE", stream, "-", "+", "COUNT", "1"))
	seconds, _ := strconv.Atoi(s.call("TIME").([]any)[0].(string))
	written, _ := strconv.Atoi(strings.Split(newest.ID, "-")[0])
	if len(first) == 0 {
		return false
	}
	deadline, err := strconv.Atoi(first[0].Fields["deadline"])
	edge := (seconds - patience) * 1000
	return err == nil && deadline < edge && written < edge
}

// follow prints one job's events and returns the exit code.
func follow(s *server, output *json.Encoder, stream, last, mark string) int {
	attempt, seen, run, rewound, wait, ended := "0", 0, "", false, "1", false
	behind := events(stream, s.call("XRANGE", stream, last, last)) // the entry we resume behind
	if len(behind) == 1 {
		if behind[0].ends(mark) {
			return 0
		}
		attempt, seen, run = behind[0].Fields["attempt"], behind[0].n(), behind[0].Fields["run"]
		if seen == 0 && !begins[behind[0].Type] {
			seen = -1 // who knows how far its attempt had come
		}
	} else if strings.ContainsAny(last, "123456789") {
		attempt, seen = "", math.MaxInt // lost: who knows what was shown
	}
	// restart says that all shown so far is void: the server forgot it, and so does not.
	restart := func(id, attempt string) {
		fields := map[string]string{"type": "restarted", "v": "1", "attempt": attempt, "n": "0", "reason": "lost"}
		output.Encode(event{Stream: stream, ID: id, Type: "restarted", Fields: fields})
	}
	for {
		reply, _ := s.call("XREAD", "COUNT", "256", "BLOCK", wait, "STREAMS", stream, last).([]any)
		if len(reply) == 0 { // nothing came: is the stream still there, and may anything come?
			if ended {
				return 0
			}
			newest := events(stream, s.call("XREVRANGE", stream, "+", "-", "COUNT", "1"))
			if len(newest) == 0 {
				return 3
			}
			if !terminal[newest[0].Type] && overdue(s, stream, newest[0]) {
				return 4
			}
			wait = "2000"
			if ended = terminal[newest[0].Type]; ended {
				wait = "1"
			}
			continue
		}
		for _, e := range events(stream, reply[0].([]any)[1]) {
			last = e.ID
			n, of := e.n(), e.Fields["attempt"]
			if e.Type == "left" && e.Fields["mark"] != mark {
				continue // the end of another job aboard
			}
			if e.Type == "started" && e.Fields["run"] != run { // another run, whatever its number
				if seen > 1 {
					restart(e.ID, of)
				}
				run = e.Fields["run"]
			} else if n > 0 && of == attempt && n <= seen {
				continue // a repeat
			} else if !e.goesOn(attempt, seen) && attempt != "0" && !rewound { // not what was shown: from the beginning
				restart("0-0", of)
				last, attempt, seen, run, rewound = "0-0", "0", 0, "", true
				break
			}
			if n > 0 || begins[e.Type] {
				attempt, seen = of, n
			}
			output.Encode(e)
			if e.ends(mark) {
				return 0
			}
		}
	}
}

func main() {
	address := os.Getenv("REDIS_URL")
	if address == "" {
		address = "redis://127.0.0.1:6379"
	}
	parsed, err := url.Parse(address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := bufio.NewScanner(os.Stdin)
	if len(os.Args) > 1 {
		lines = bufio.NewScanner(strings.NewReader(strings.Join(os.Args[1:], " ")))
	}
	s, output, code := &server{url: parsed}, json.NewEncoder(os.Stdout), 0
	output.SetEscapeHTML(false)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 3 {
			if found := follow(s, output, words[0], words[1], words[2]); found > code {
				code = found
			}
		}
	}
	os.Exit(code)
}
