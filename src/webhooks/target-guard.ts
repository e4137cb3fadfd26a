// Where webhooks may go: public addresses over https, and what the operator allows beyond that. Entry: createTargetGuard.
// Names are resolved here, every address is checked, and the connection is made to the checked addresses alone, so that a
// DNS answer that changes in between changes nothing. Ranges: IANA special-purpose registries (RFC 6890), and the addresses
// of cloud metadata services that lie outside of them.

import { lookup as dnsLookup } from 'node:dns/promises'
import { BlockList, isIP, isIPv6 } from 'node:net'
import { AppError } from '../errors.ts'

export interface Address {
  address: string
  family: 4 | 6
}

export type Resolve = (hostname: string) => Promise<Address[]>

export interface TargetGuard {
  /** What can be said without asking DNS. Throws request_invalid and webhook_target_forbidden. */
  checkUrl(text: string): URL
  /** Every address that the host has, each of them allowed. Throws webhook_target_forbidden; DNS errors pass. */
  addressesOf(url: URL): Promise<Address[]>
}

/** The network policy of k8s/ has the same ranges: test/deploy/manifests.test.ts. */
export const BLOCKED_IPV4 = [
  '0.0.0.0/8', // this network
  '10.0.0.0/8',
  '100.64.0.0/10', // carrier-grade NAT; 100.100.100.200 is Alibaba's metadata service
  '127.0.0.0/8',
  '168.63.129.16/32', // Azure's host agent, a public address
  '169.254.0.0/16', // link-local; 169.254.169.254 is the metadata service of most clouds
  '172.16.0.0/12',
  '192.0.0.0/24', // IETF protocol assignments; 192.0.0.192 is Oracle's metadata service
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16',
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
]
export const BLOCKED_IPV6 = [
  // All but global unicast, 2000::/3: unspecified, loopback, IPv4-mapped and -compatible, NAT64 (64:ff9b::), discard (100::),
  // unique local (fd00:ec2::254 is Amazon's metadata service), link-local, site-local, multicast.
  '::/3',
  '4000::/2',
  '8000::/1',
  '2001::/23', // IETF protocol assignments: Teredo, ORCHID
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4, which carries any IPv4 address
  '3fff::/20', // documentation
]

const MAX_URL_CHARACTERS = 2048

/** @param allow host names (`.example.com`: and those below), addresses and CIDR ranges. Throws `usage` for anything else. */
export function createTargetGuard(allow: readonly string[], resolve: Resolve = resolveAll): TargetGuard {
  const blocked = rangesOf([...BLOCKED_IPV4, ...BLOCKED_IPV6])
  const ranges = allow.filter((entry) => entry.includes('/') || isIP(entry) !== 0)
  const allowedRanges = rangesOf(ranges)
  const allowedHosts = allow.filter((entry) => !ranges.includes(entry)).map(checkedHost)

  const hostAllowed = (host: string) =>
    allowedHosts.some((entry) => host === entry || (entry.startsWith('.') && host.endsWith(entry)))
  const inAllowedRange = (target: Address) => contains(allowedRanges, target)
  const isBlocked = (target: Address) => contains(blocked, target) && !inAllowedRange(target)

  /** For an address and for a name alike; null: may go. The address itself is not told: it may be a secret of our network. */
  function objection(url: URL, addresses: readonly Address[]): string | null {
    const host = hostOf(url)
    if (hostAllowed(host)) return null
    if (addresses.some(isBlocked)) {
      return `${host} is, or resolves to, an address that is private, local or reserved.`
    }
    if (url.protocol === 'http:' && !addresses.every(inAllowedRange)) return `${host} is called over plain http.`
    return null
  }

  return {
    checkUrl(text) {
      const url = text.length > MAX_URL_CHARACTERS ? null : URL.parse(text)
      if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:') || url.hostname === '') {
        throw new AppError(
          'request_invalid',
          `webhook.url is not an https URL of at most ${MAX_URL_CHARACTERS} characters.`,
          { path: 'webhook.url' },
        )
      }
      if (url.username !== '' || url.password !== '') {
        throw new AppError(
          'request_invalid',
          'webhook.url holds a user name or password. Deliveries are signed; check the signature instead.',
          { path: 'webhook.url' },
        )
      }
      url.hash = ''
      const literal = addressOf(hostOf(url))
      const local = /(^|\.)localhost$/.test(hostOf(url)) && !hostAllowed(hostOf(url)) && ranges.length === 0
      const openHttp = url.protocol === 'http:' && !hostAllowed(hostOf(url)) && ranges.length === 0
      if (literal !== null) refuse(objection(url, [literal]))
      else if (local) refuse(`${hostOf(url)} is this machine.`)
      else if (openHttp) refuse(`${hostOf(url)} is called over plain http.`)
      return url
    },
    async addressesOf(url) {
      const literal = addressOf(hostOf(url))
      const addresses = literal === null ? await resolve(hostOf(url)) : [literal]
      if (addresses.length === 0) throw new Error(`${hostOf(url)} has no address`)
      refuse(objection(url, addresses))
      return addresses
    },
  }
}

function refuse(objection: string | null): void {
  if (objection === null) return
  throw new AppError(
    'webhook_target_forbidden',
    `${objection} Webhooks go to public addresses over https, and to what the operator lists in TENSORPRESS_WEBHOOK_ALLOW.`,
    { path: 'webhook.url' },
  )
}

async function resolveAll(hostname: string): Promise<Address[]> {
  const found = await dnsLookup(hostname, { all: true, order: 'verbatim' })
  return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }))
}

/** Lower case, without the brackets of an IPv6 address and without the final dot of a full name. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
}

function addressOf(host: string): Address | null {
  const family = isIP(host)
  return family === 0 ? null : { address: host, family: family === 6 ? 6 : 4 }
}

/** One list per family: a BlockList takes an IPv4 address for its IPv4-mapped form, which ::/3 holds. */
interface Ranges {
  4: BlockList
  6: BlockList
}

function contains(ranges: Ranges, { address, family }: Address): boolean {
  return ranges[family].check(address, `ipv${family}`)
}

function rangesOf(entries: readonly string[]): Ranges {
  const ranges: Ranges = { 4: new BlockList(), 6: new BlockList() }
  for (const entry of entries) {
    const [address = '', prefix, more] = entry.split('/')
    const family = isIPv6(address) ? 6 : 4
    const bits = family === 6 ? 128 : 32
    const length = prefix === undefined ? bits : Number(prefix)
    const wrong = isIP(address) === 0 || more !== undefined || prefix === '' || !Number.isInteger(length)
    if (wrong || length < 0 || length > bits) throw badEntry(entry)
    ranges[family].addSubnet(address, length, `ipv${family}`)
  }
  return ranges
}

function checkedHost(entry: string): string {
  const host = entry.toLowerCase()
  const labels = host.replace(/^\./, '').split('.')
  if (!labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) throw badEntry(entry)
  return host
}

function badEntry(entry: string): AppError {
  return new AppError(
    'usage',
    `TENSORPRESS_WEBHOOK_ALLOW has ${JSON.stringify(entry)}; a host name (hooks.example.com, .example.com), an address or a range (10.1.0.0/16) is expected.`,
    { path: 'TENSORPRESS_WEBHOOK_ALLOW' },
  )
}
