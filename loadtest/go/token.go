package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
)

// The format is that of docs/token.md: AES-SIV (RFC 5297) under the key named by three bytes.
var (
	purpose = []byte("heliograph/1/open")
	base    = base64.RawURLEncoding.Strict()
)

type sealed struct {
	campaign, send, recipient, keyID string
	sentAt                           uint32
}

type key struct {
	id     string
	cipher *subtle.AESSIV
}

type ring map[string]key

func parseRing(file []byte) (ring, error) {
	var content struct {
		Keys []struct {
			ID     string
			Secret []byte
		}
	}
	if err := json.Unmarshal(file, &content); err != nil {
		return nil, err
	}
	found := ring{}
	for _, k := range content.Keys {
		cipher, err := subtle.NewAESSIV(k.Secret)
		if err != nil {
			return nil, err
		}
		id, err := hex.DecodeString(k.ID)
		if err != nil {
			return nil, err
		}
		found[base.EncodeToString(id)] = key{k.ID, cipher}
	}
	return found, nil
}

func (r ring) open(text string) (sealed, bool) {
	if len(text) < 28 || len(text) > 4096 {
		return sealed{}, false
	}
	key, ok := r[text[:4]]
	if !ok {
		return sealed{}, false
	}
	raw, err := base.DecodeString(text[4:])
	if err != nil {
		return sealed{}, false
	}
	payload, err := key.cipher.DecryptDeterministically(raw, purpose)
	if err != nil || len(payload) < 5 || payload[0]&0xf0 != 0x10 {
		return sealed{}, false
	}
	names, rest := [3]string{}, payload[5:]
	for i := range names {
		if len(rest) == 0 || len(rest) <= int(rest[0]) {
			return sealed{}, false
		}
		end := 1 + int(rest[0])
		names[i], rest = string(rest[1:end]), rest[end:]
	}
	if names[1] == "" {
		names[1] = names[0]
	}
	return sealed{names[0], names[1], names[2], key.id, binary.BigEndian.Uint32(payload[1:5])}, true
}
