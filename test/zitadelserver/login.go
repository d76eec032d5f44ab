package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// credentialFile is the .credentials.json of Claude Code.
type credentialFile struct {
	OAuth credential `json:"claudeAiOauth"`
}

// credential is one login.
type credential struct {
	AccessToken      string   `json:"accessToken"`
	RefreshToken     string   `json:"refreshToken"`
	ExpiresAt        int64    `json:"expiresAt"` // unix milliseconds
	Scopes           []string `json:"scopes"`
	SubscriptionType string   `json:"subscriptionType"`
	RateLimitTier    string   `json:"rateLimitTier"`
}

// login runs the authorization code grant with PKCE over HTTP against our own
// endpoints, as a browser and a client would.
func login(ctx context.Context, at endpoints) (*credentialFile, error) {
	client := oauth2.Config{
		ClientID: clientID,
		Endpoint: oauth2.Endpoint{
			AuthURL:   at.AuthorizeURL,
			TokenURL:  at.TokenURL,
			AuthStyle: oauth2.AuthStyleInParams, // a public client
		},
		RedirectURL: redirectURI,
		Scopes:      loginScopes,
	}
	verifier := oauth2.GenerateVerifier()
	code, err := authorizationCode(ctx, client, verifier)
	if err != nil {
		return nil, fmt.Errorf("authorize: %w", err)
	}
	token, err := client.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, fmt.Errorf("exchange code: %w", err)
	}
	scope, _ := token.Extra("scope").(string)
	return &credentialFile{OAuth: credential{
		AccessToken:      token.AccessToken,
		RefreshToken:     token.RefreshToken,
		ExpiresAt:        token.Expiry.UnixMilli(),
		Scopes:           strings.Fields(scope),
		SubscriptionType: "max",
		RateLimitTier:    "default_claude_max_5x",
	}}, nil
}

// authorizationCode plays the browser: it opens the authorization URL, follows
// it through the sign-in page, and takes the code from the redirect to the
// client, which nobody needs to serve.
func authorizationCode(ctx context.Context, client oauth2.Config, verifier string) (string, error) {
	state := rand.Text()
	target := client.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Host == req.URL.Host {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	resp, err := browser.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	location, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return codeOf(location.Query(), state)
}

// codeOf checks the redirect's parameters (RFC 6749 sections 4.1.2, 10.12).
func codeOf(query url.Values, state string) (string, error) {
	if name := query.Get("error"); name != "" {
		return "", fmt.Errorf("%s: %s", name, query.Get("error_description"))
	}
	if query.Get("state") != state {
		return "", errors.New("state differs")
	}
	if query.Get("code") == "" {
		return "", errors.New("no code in the redirect")
	}
	return query.Get("code"), nil
}
