// An OpenID Connect provider for the sign-in stories: the certified
// oidc-provider package over TLS, with one public native client and people who
// are whatever name they type in.
//
//   node provider.mjs CERTIFICATE KEY
//
// It prints "ready URL". These requests change it while it runs:
//   POST /-/rotate        sign with a new key, publish the old one too
//   POST /-/rotate/drop   and publish the old one no more
//   POST /-/life/SECONDS  the life of ID tokens from now on
//   POST /-/away/on, off  answer 503 to everything else
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';

// What the provider remembers outlives a rotation of its keys.
const memory = new Map();
class Adapter {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { memory.set(this.key(id), payload); }
  async find(id) { return memory.get(this.key(id)); }
  async search(field, value) {
    for (const [key, payload] of memory) if (key.startsWith(`${this.model}:`) && payload[field] === value) return payload;
    return undefined;
  }
  async findByUserCode(code) { return this.search('userCode', code); }
  async findByUid(uid) { return this.search('uid', uid); }
  async consume(id) { memory.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { memory.delete(this.key(id)); }
  async revokeByGrantId(grant) {
    for (const [key, payload] of memory) if (payload.grantId === grant) memory.delete(key);
  }
}

const [, , certificate, key] = process.argv;
let life = 3600;
let handler, issuer;
let away = false;
const keys = [];
const cookies = [randomBytes(32).toString('hex')];
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (req, res) => {
  const [, mark, command, argument] = req.url.split('/');
  if (mark === '-' && req.method === 'POST') {
    if (command === 'rotate') { sign(argument === 'drop'); serve(issuer); }
    if (command === 'life') life = Number(argument);
    if (command === 'away') away = argument === 'on';
    res.writeHead(204).end();
    return;
  }
  if (away) { res.writeHead(503).end(); return; }
  handler(req, res);
});

function sign(drop) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  if (drop) keys.length = 0;
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: `key-${randomBytes(6).toString('hex')}` });
}

function serve(issuer) {
  const provider = new Provider(issuer, {
    adapter: Adapter,
    jwks: { keys },
    cookies: { keys: cookies },
    clients: [{
      client_id: 'gatehouse',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
    }],
    pkce: { required: () => true },
    features: { deviceFlow: { enabled: true }, revocation: { enabled: true }, devInteractions: { enabled: true } },
    claims: { openid: ['sub'], groups: ['groups'] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: ['dev'] }) }),
    rotateRefreshToken: true,
    ttl: { IdToken: () => life, AccessToken: 3600, RefreshToken: 86400, DeviceCode: 600, Grant: 86400, Interaction: 600, Session: 86400, AuthorizationCode: 60 },
  });
  handler = provider.callback();
}

server.listen(0, '127.0.0.1', () => {
  issuer = `https://127.0.0.1:${server.address().port}`;
  sign(false);
  serve(issuer);
  console.log(`ready ${issuer}`);
});
