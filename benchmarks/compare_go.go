// The probe's target for Go's net/http: the same paths, and the same events.
//
// It is told by the request's context.  compare_go PORT.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	work   = 600 * time.Millisecond
	blocks = 30
	each   = 50 * time.Millisecond
)

var (
	large = make([]byte, 16*1024*1024)
	block = makeBlock()
)

func makeBlock() []byte {
	filling := make([]byte, 1000)
	for i := range filling {
		filling[i] = 'x'
	}
	return []byte("data: " + string(filling) + "\n\n")
}

// task is what one handler does, as it is told to the probe.
type task struct {
	request *http.Request
	told    bool
}

func (t *task) tell(event string, more map[string]any) {
	about := map[string]any{
		"event": event,
		"at":    float64(time.Now().UnixNano()) / 1e9,
		"path":  t.request.URL.Path,
		"mark":  t.request.URL.Query().Get("probe"),
	}
	for name, value := range more {
		about[name] = value
	}
	text, _ := json.Marshal(about)
	os.Stderr.WriteString("hangup-probe " + string(text) + "\n") // In one piece.
}

// pause works for so long, or until the client has left: true then.
func (t *task) pause(duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-t.request.Context().Done():
		if !t.told {
			t.told = true
			t.tell("told", nil)
		}
		return true
	}
}

// stream goes on when the client has left, until a write fails: it may have closed but its sending side.
func (t *task) stream(w http.ResponseWriter) bool {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 0; i < blocks; i++ {
		if t.pause(each) {
			time.Sleep(each)
		}
		if _, err := w.Write(block); err != nil {
			return false
		}
		w.(http.Flusher).Flush()
	}
	return true
}

func answer(w http.ResponseWriter, status int, body []byte) bool {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err == nil
}

// serve says whether the answer was made to its end.
func (t *task) serve(w http.ResponseWriter) bool {
	switch t.request.URL.Path {
	case "/":
		return answer(w, 200, []byte("hello\n"))
	case "/slow":
		if t.pause(work) {
			answer(w, 200, []byte("done, early\n"))
			return false
		}
		return answer(w, 200, []byte("done\n"))
	case "/large":
		return answer(w, 200, large)
	case "/stream":
		return t.stream(w)
	case "/upload":
		size, err := io.Copy(io.Discard, t.request.Body)
		if err != nil {
			return false
		}
		return answer(w, 200, []byte(fmt.Sprintf("%d bytes\n", size)))
	}
	return answer(w, 404, []byte("no such path\n"))
}

func main() {
	handler := func(w http.ResponseWriter, request *http.Request) {
		t := &task{request: request}
		t.tell("began", nil)
		done := false
		defer func() { t.tell("ended", map[string]any{"stopped": !done}) }()
		done = t.serve(w)
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handler)))
	os.Exit(1)
}
