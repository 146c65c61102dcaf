// A pixel service as a Go engineer would write it, to be measured beside Heliograph's edge: it
// opens the token, produces the event with franz-go and answers once Kafka has acknowledged it.
//
//	edge -listen 127.0.0.1:8080 -kafka 127.0.0.1:9092 -topic opens -keys data/keys.json
package main

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var pixel, _ = hex.DecodeString("47494638396101000100800000ffffff00000021f90401000000002c0000" +
	"0000010001000002024401003b")

type event struct {
	TS             int64  `json:"ts"`
	Kind           string `json:"kind"`
	Campaign       string `json:"campaign"`
	Send           string `json:"send"`
	Recipient      string `json:"recipient"`
	MessageID      string `json:"message_id"`
	SentAt         uint32 `json:"sent_at"`
	Link           string `json:"link"`
	Method         string `json:"method"`
	Address        string `json:"address"`
	UserAgent      string `json:"user_agent"`
	AcceptLanguage string `json:"accept_language"`
	Referer        string `json:"referer"`
	Prefetch       string `json:"prefetch"`
	KeyID          string `json:"key_id"`
}

type service struct {
	kafka   *kgo.Client
	ring    ring
	trusted netip.Prefix
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e, ok := s.event(r); ok {
		line, err := json.Marshal(&e)
		if err == nil {
			err = s.kafka.ProduceSync(r.Context(), &kgo.Record{Value: line}).FirstErr()
		}
		if err != nil {
			log.Print(err)
		}
	}
	header := w.Header()
	header["Content-Type"] = []string{"image/gif"}
	header["Content-Length"] = []string{"43"}
	header["Cache-Control"] = []string{"no-cache, no-store, must-revalidate, max-age=0"}
	header["Pragma"] = []string{"no-cache"}
	header["Expires"] = []string{"0"}
	w.Write(pixel)
}

func (s *service) event(r *http.Request) (event, bool) {
	path := r.URL.Path
	const before, after = "/o/", ".gif"
	if len(path) < len(before)+len(after) || path[:3] != before || path[len(path)-4:] != after {
		return event{}, false
	}
	sealed, ok := s.ring.open(path[3 : len(path)-4])
	if !ok {
		return event{}, false
	}
	header := r.Header
	e := event{
		TS: time.Now().UnixMilli(), Kind: "open", Method: r.Method,
		Campaign: sealed.campaign, Send: sealed.send, Recipient: sealed.recipient,
		SentAt: sealed.sentAt, KeyID: sealed.keyID,
		Address:   s.client(r.RemoteAddr, header["X-Forwarded-For"]),
		UserAgent: header.Get("User-Agent"), AcceptLanguage: header.Get("Accept-Language"),
		Referer: header.Get("Referer"), Prefetch: header.Get("Sec-Purpose"),
	}
	return e, true
}

// client is the address the proxy was asked from, or the peer's where it is no proxy of ours.
func (s *service) client(peer string, forwarded []string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return peer
	}
	address, err := netip.ParseAddr(host)
	if err != nil || len(forwarded) != 1 || !s.trusted.Contains(address) {
		return host
	}
	if told, err := netip.ParseAddr(forwarded[0]); err == nil {
		return told.String()
	}
	return host
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	brokers := flag.String("kafka", "127.0.0.1:9092", "bootstrap broker")
	topic := flag.String("topic", "opens", "topic, which must exist")
	keys := flag.String("keys", "keys.json", "key file of Heliograph")
	linger := flag.Duration("linger", 5*time.Millisecond, "how long a batch waits to be filled")
	flag.Parse()
	file, err := os.ReadFile(*keys)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := parseRing(file)
	if err != nil {
		log.Fatal(err)
	}
	// acks=all and idempotence are the client's defaults.
	client, err := kgo.NewClient(kgo.SeedBrokers(*brokers), kgo.DefaultProduceTopic(*topic),
		kgo.ProducerLinger(*linger))
	if err != nil {
		log.Fatal(err)
	}
	s := &service{client, ring, netip.MustParsePrefix("127.0.0.1/32")}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %s", listener.Addr())
	log.Fatal(http.Serve(listener, s))
}
