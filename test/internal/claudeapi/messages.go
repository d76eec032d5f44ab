package claudeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxMessageBody bounds one /v1/messages request, in bytes.
const maxMessageBody = 32 << 20

type messagesRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
}

// serveMessages answers a prompt with Echo, as one JSON object or as events.
func serveMessages(w http.ResponseWriter, r *http.Request) {
	var req messagesRequest
	err := json.NewDecoder(io.LimitReader(r.Body, maxMessageBody)).Decode(&req)
	if err != nil || len(req.Messages) == 0 {
		writeError(w, http.StatusBadRequest, "invalid_request_error", "messages: not readable")
		return
	}
	text := Echo(lastPrompt(req), bearer(r))
	if req.Stream {
		streamMessage(w, req.Model, text)
		return
	}
	msg := message(req.Model)
	msg["content"] = []any{textBlock(text)}
	msg["stop_reason"] = "end_turn"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(msg)
}

// lastPrompt returns the last text of the last user message that has one. The
// client adds reminders of its own to the user's message; they do not count.
func lastPrompt(req messagesRequest) string {
	for i := len(req.Messages) - 1; i >= 0; i-- {
		if req.Messages[i].Role != "user" {
			continue
		}
		texts := contentTexts(req.Messages[i].Content)
		for j := len(texts) - 1; j >= 0; j-- {
			text := strings.TrimSpace(texts[j])
			if text != "" && !strings.HasPrefix(text, "<system-reminder>") {
				return text
			}
		}
	}
	return ""
}

// contentTexts reads both forms of content: a string, or a list of blocks.
func contentTexts(raw json.RawMessage) []string {
	var plain string
	if json.Unmarshal(raw, &plain) == nil {
		return []string{plain}
	}
	var blocks []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &blocks) != nil {
		return nil
	}
	var texts []string
	for _, b := range blocks {
		if b.Type == "text" {
			texts = append(texts, b.Text)
		}
	}
	return texts
}

func message(model string) map[string]any {
	return map[string]any{
		"id":            "msg_double",
		"type":          "message",
		"role":          "assistant",
		"model":         model,
		"content":       []any{},
		"stop_reason":   nil,
		"stop_sequence": nil,
		"usage":         map[string]int{"input_tokens": 8, "output_tokens": 8},
	}
}

func textBlock(text string) map[string]any {
	return map[string]any{"type": "text", "text": text}
}

// streamMessage sends the events of one text answer in the API's order.
func streamMessage(w http.ResponseWriter, model, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	send := func(kind string, fields map[string]any) {
		fields["type"] = kind
		data, _ := json.Marshal(fields) // maps of strings and numbers always marshal
		_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, data)
		_ = http.NewResponseController(w).Flush()
	}
	send("message_start", map[string]any{"message": message(model)})
	send("content_block_start", map[string]any{"index": 0, "content_block": textBlock("")})
	send("ping", map[string]any{})
	send("content_block_delta", map[string]any{
		"index": 0, "delta": map[string]string{"type": "text_delta", "text": text},
	})
	send("content_block_stop", map[string]any{"index": 0})
	send("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": "end_turn", "stop_sequence": nil},
		"usage": map[string]int{"output_tokens": 8},
	})
	send("message_stop", map[string]any{})
}
