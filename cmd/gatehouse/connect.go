package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	identity "github.com/gatehouse-dev/gatehouse/api/identity/v1alpha1"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential"
	"github.com/gatehouse-dev/gatehouse/internal/edge/credential/oidc"
	"github.com/gatehouse-dev/gatehouse/internal/fault"
	"github.com/gatehouse-dev/gatehouse/internal/keycloak"
)

func connectCommand() *cobra.Command {
	c := &cobra.Command{Use: "connect", Short: "Let people of another provider sign in"}
	c.AddCommand(connectKeycloakCommand(), connectOIDCCommand())
	return c
}

func connectKeycloakCommand() *cobra.Command {
	var o keycloak.Config
	var out, ca, output string
	c := &cobra.Command{
		Use:   "keycloak NAME --url URL --realm REALM --out DIR",
		Short: "Write a Keycloak realm and the IdentityProvider that trusts it",
		Long: `Writes three files into DIR and speaks to neither Keycloak nor the control plane:

  realm.json              a realm with the client in it, for "kc.sh import" or
                          "kcadm.sh create realms"
  client.json             the client alone, for a realm that exists already
  identity-provider.yaml  the IdentityProvider, for "kubectl apply"

The client is public, must use PKCE with S256, may use device code, and puts the
groups of a person into the ID token. People are NAME:USERNAME here, their groups
NAME:GROUP. The realm of realm.json issues tokens of five minutes whose renewal ends
after ten hours.`,
		Example: `  gatehouse connect keycloak staff --url https://login.example --realm staff --out ./staff
  kcadm.sh create realms -f ./staff/realm.json
  kubectl apply -f ./staff/identity-provider.yaml
  gatehouse login --issuer https://login.example/realms/staff --client-id gatehouse`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			o.Name = args[0]
			if o.URL == "" || o.Realm == "" || out == "" {
				return &exit{exitUsage, errors.New("--url, --realm and --out are required")}
			}
			var err error
			if o.CA, err = readCA(ca); err != nil {
				return err
			}
			return connectKeycloak(cmd.OutOrStdout(), cmd.ErrOrStderr(), o, out, output)
		},
	}
	f := c.Flags()
	f.StringVar(&o.URL, "url", "", "base https URL of the Keycloak, without /realms (required)")
	f.StringVar(&o.Realm, "realm", "", "name of the realm (required)")
	f.StringVar(&o.ClientID, "client-id", "gatehouse", "name of the client")
	f.Uint16Var(&o.RedirectPort, "redirect-port", 0, "port on 127.0.0.1 that people's browsers come back to (default: any, which old Keycloaks refuse)")
	f.StringVar(&ca, "ca", "", "file with the authority of the Keycloak (default: those of the control plane's machine)")
	f.StringVar(&out, "out", "", "directory to write to (required)")
	outputFlag(c, &output)
	return c
}

func oneName(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &exit{exitUsage, errors.New("one name of an identity provider is required")}
	}
	return nil
}

func readCA(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := credential.ReadFile(path)
	if err != nil {
		return "", &exit{exitUsage, fmt.Errorf("--ca: %w", err)}
	}
	return string(data), nil
}

// written is what connect keycloak prints.
type written struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"clientID"`
	Realm    string `json:"realm"`
	Client   string `json:"client"`
	Provider string `json:"identityProvider"`
}

func connectKeycloak(w, say io.Writer, o keycloak.Config, out, output string) error {
	files, err := keycloak.Render(o)
	if err != nil {
		return &exit{exitUsage, errors.New(fault.Public(err))}
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return &exit{exitUsage, err}
	}
	done := written{
		Issuer: o.Issuer(), ClientID: o.ClientID,
		Realm: filepath.Join(out, "realm.json"), Client: filepath.Join(out, "client.json"), Provider: filepath.Join(out, "identity-provider.yaml"),
	}
	manifest, err := providerManifest(files.Provider)
	if err != nil {
		return &exit{exitNo, err}
	}
	for path, value := range map[string]any{done.Realm: files.Realm, done.Client: files.Client} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err == nil {
			err = durable.WriteFile(path, append(data, '\n'))
		}
		if err != nil {
			return &exit{exitUsage, err}
		}
	}
	if err := durable.WriteFile(done.Provider, manifest); err != nil {
		return &exit{exitUsage, err}
	}
	if err := show(w, output, done, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n%s\n%s\n", done.Realm, done.Client, done.Provider)
	}); err != nil {
		return err
	}
	fmt.Fprintf(say, "import the realm or the client, then: kubectl apply -f %s\npeople sign in with: gatehouse login --issuer %s --client-id %s\n", done.Provider, done.Issuer, done.ClientID)
	return nil
}

// providerManifest renders an IdentityProvider without what only the server
// writes.
func providerManifest(p *identity.IdentityProvider) ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"apiVersion": p.APIVersion, "kind": p.Kind, "metadata": map[string]string{"name": p.Name}, "spec": p.Spec,
	})
}

func connectOIDCCommand() *cobra.Command {
	var issuer, clientID, ca, username, groups string
	c := &cobra.Command{
		Use:   "oidc NAME --issuer URL --client-id ID",
		Short: "Print the IdentityProvider for Dex or another OpenID Connect provider",
		Long: `Prints a manifest for "kubectl apply"; nothing is sent anywhere. People are
NAME:CLAIM here, their groups NAME:GROUP. The claim should be one that the provider
never gives to somebody else, which sub is by definition; names and e-mail addresses
are easier to read and may change hands.`,
		Example: `  gatehouse connect oidc dex --issuer https://dex.example --client-id gatehouse --username-claim email | kubectl apply -f -`,
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			authority, err := readCA(ca)
			if err != nil {
				return err
			}
			if err := keycloak.CheckName(args[0]); err != nil {
				return &exit{exitUsage, errors.New(fault.Public(err))}
			}
			if err := oidc.Check(issuer, clientID); err != nil {
				return &exit{exitUsage, err}
			}
			p := keycloak.Provider(args[0], issuer, clientID, authority)
			p.Spec.JWT.ClaimMappings.Username.Claim, p.Spec.JWT.ClaimMappings.Groups.Claim = username, groups
			if groups == "" {
				p.Spec.JWT.ClaimMappings.Groups = identity.PrefixedClaimOrExpression{}
			}
			if username == "email" {
				// An address that nobody checked is a name that anybody may take.
				p.Spec.JWT.ClaimValidationRules = []identity.ClaimValidationRule{{Expression: "claims.?email_verified.orValue(false) == true", Message: "the address is not verified"}}
			}
			manifest, err := providerManifest(p)
			if err != nil {
				return &exit{exitNo, err}
			}
			_, err = cmd.OutOrStdout().Write(manifest)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&issuer, "issuer", "", "https URL of the provider, exactly as in its tokens (required)")
	f.StringVar(&clientID, "client-id", "", "the client's name at the provider (required)")
	f.StringVar(&username, "username-claim", "sub", "claim that names the person")
	f.StringVar(&groups, "groups-claim", "groups", "claim that lists the groups; empty for none")
	f.StringVar(&ca, "ca", "", "file with the authority of the provider (default: those of the control plane's machine)")
	return c
}
