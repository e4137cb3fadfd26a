// The Kubernetes manifests: both overlays are built as kustomize builds them, hold to the schemas of Kubernetes, and say what the
// server really has: its settings, ports, routes, user, grace periods and memory rule.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseDockerfile } from '../../scripts/image/dockerfile.ts'
import { loadConfig } from '../../src/config.ts'
import { CHILD_MEMORY_SHARE } from '../../src/jobs/create-service.ts'
import { VERSION } from '../../src/version.ts'
import { BLOCKED_IPV4, BLOCKED_IPV6 } from '../../src/webhooks/target-guard.ts'
import { httpApp } from '../support/http-app.ts'
import { buildKustomization, type Manifest, readManifests } from '../support/kustomize.ts'
import { runPython, skipWithoutPython } from '../support/python-environment.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const OVERLAYS = ['software', 'nvidia']
/** The oldest version that still got fixes when 0.1 was made, one in between, and the newest that the validator knows. */
const KUBERNETES = ['1.33', '1.35', '1.37']

interface PodSpec {
  automountServiceAccountToken: boolean
  enableServiceLinks: boolean
  terminationGracePeriodSeconds: number
  runtimeClassName?: string
  securityContext: Record<string, unknown>
  containers: {
    image: string
    ports: { name: string; containerPort: number }[]
    env: { name: string; value: string }[]
    resources: { requests: Record<string, string>; limits: Record<string, string> }
    securityContext: Record<string, unknown>
    volumeMounts: { name: string; mountPath: string; subPath?: string }[]
    startupProbe: Probe
    livenessProbe: Probe
    readinessProbe: Probe
  }[]
  volumes: { name: string }[]
}

interface Probe {
  httpGet: { path: string; port: string }
}

const build = (overlay: string) => buildKustomization(join(ROOT, 'k8s', 'overlays', overlay))

function find(manifests: Manifest[], kind: string, name = 'tensorpress'): Manifest {
  const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name)
  assert.ok(found, `there is no ${kind} ${name}`)
  return found
}

function podOf(manifests: Manifest[]): { spec: PodSpec; container: PodSpec['containers'][number]; labels: unknown } {
  const { template } = find(manifests, 'Deployment')['spec'] as unknown as {
    template: { metadata: { labels: unknown }; spec: PodSpec }
  }
  assert.equal(template.spec.containers.length, 1)
  return { spec: template.spec, container: template.spec.containers[0]!, labels: template.metadata.labels }
}

const settingsOf = (manifests: Manifest[]) => find(manifests, 'ConfigMap')['data'] as Record<string, string>

/** 4Gi -> bytes */
function bytesOf(quantity: string | undefined): number {
  const match = /^(\d+)(Mi|Gi)$/.exec(quantity ?? '')
  assert.ok(match, `${quantity} is not in Mi or Gi`)
  return Number(match[1]) * 2 ** (match[2] === 'Gi' ? 30 : 20)
}

function validate(folder: string, manifests: unknown[]): { checked: number; findings: { message: string }[] } {
  const path = join(folder, 'manifests.json')
  writeFileSync(path, JSON.stringify(manifests))
  const result = runPython('deploy/validate_manifests.py', path, ...KUBERNETES)
  return result as { checked: number; findings: { message: string }[] }
}

test('both overlays hold to the schemas of three Kubernetes versions, strictly', {
  skip: skipWithoutPython('requirements-deploy.txt'),
}, (t) => {
  const folder = tempFolder(t)
  for (const name of OVERLAYS) {
    const manifests = build(name)
    const { checked, findings } = validate(folder, manifests)
    assert.deepEqual(findings, [])
    const own = manifests.filter(({ apiVersion }) => apiVersion.startsWith('monitoring.coreos.com/')).length
    assert.equal(checked, (manifests.length - own) * KUBERNETES.length + own)
    assert.ok(own >= 1)
  }
})

test('that check sees a wrong field, a wrong type and an unknown kind', {
  skip: skipWithoutPython('requirements-deploy.txt'),
}, (t) => {
  const folder = tempFolder(t)
  const change = (kind: string, spec: object) => {
    const manifest = structuredClone(find(build('nvidia'), kind))
    Object.assign(manifest['spec'] as object, spec)
    return validate(folder, [manifest]).findings.map(({ message }) => message)
  }
  const typo = change('Deployment', { replica: 1 })
  assert.equal(typo.length, KUBERNETES.length)
  assert.match(typo[0]!, /'replica' was unexpected/)
  assert.match(change('Service', { ports: [{ port: 'eighty' }] })[0]!, /'eighty' is not of type/)
  assert.match(change('ServiceMonitor', { endpoint: [] })[0]!, /'endpoint' was unexpected/)
  assert.match(change('ServiceMonitor', { endpoints: [{ interval: '30 seconds' }] })[0]!, /does not match/)
  const unknown = { apiVersion: 'apps/v1', kind: 'Deploymint', metadata: { name: 'x' } }
  assert.match(validate(folder, [unknown]).findings[0]!.message, /Couldn't find schema for kind Deploymint/)
})

test('kubectl builds the same manifests', {
  skip: spawnSync('kubectl', ['version', '--client']).status !== 0 && 'deploy: skipped, there is no kubectl',
}, (t) => {
  for (const name of OVERLAYS) {
    const run = spawnSync('kubectl', ['kustomize', join(ROOT, 'k8s', 'overlays', name)], { encoding: 'utf8' })
    assert.equal(run.status, 0, run.stderr)
    const path = join(tempFolder(t), 'built.yaml')
    writeFileSync(path, run.stdout)
    const sorted = (manifests: Manifest[]) =>
      manifests.toSorted((a, b) => `${a.kind}/${a.metadata.name}`.localeCompare(`${b.kind}/${b.metadata.name}`))
    assert.deepEqual(sorted(build(name)), sorted(readManifests(path)))
  }
})

test('every TENSORPRESS_ variable of the manifests and of the image is a setting of the server, with a value that it takes', () => {
  const read = new Set<string>()
  const recorder = new Proxy<NodeJS.ProcessEnv>({}, { get: (_, name) => void read.add(String(name)) })
  loadConfig(recorder)
  // Read by scripts/vulkan.mjs: the image is complete, so nothing is to be installed.
  read.add('TENSORPRESS_SETUP')
  const image = parseDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')).at(-1)!.config.env
  for (const name of OVERLAYS) {
    const manifests = build(name)
    const variables: Record<string, string> = { ...image, ...settingsOf(manifests) }
    for (const variable of podOf(manifests).container.env) variables[variable.name] = variable.value
    const ours = Object.keys(variables).filter((variable) => variable.startsWith('TENSORPRESS_'))
    assert.ok(ours.length >= 7)
    assert.deepEqual(
      ours.filter((variable) => !read.has(variable)),
      [],
    )
    const config = loadConfig(variables)
    assert.equal(config.host, '0.0.0.0')
    assert.equal(config.dataDir, '/data')
    assert.equal(config.device, name === 'nvidia' ? 'NVIDIA' : 'auto')
    assert.equal(config.apiKeysFile, '/run/secrets/tensorpress/keys')
    assert.equal(config.insecure, false)
  }
})

test('probes ask open routes, and ports lead to the server from the Service on', (t) => {
  const { routes } = httpApp(t)
  const scopeOf = (path: string) => routes.find((route) => route.method === 'get' && route.path === path)?.scope
  for (const name of OVERLAYS) {
    const manifests = build(name)
    const { container, labels } = podOf(manifests)
    assert.deepEqual(container.ports, [
      { name: 'http', containerPort: Number(settingsOf(manifests)['TENSORPRESS_PORT']) },
    ])
    const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe].map(
      (probe) => probe.httpGet,
    )
    assert.deepEqual(
      probes.map(({ path }) => path),
      ['/healthz', '/healthz', '/readyz'],
    )
    for (const { path, port } of probes) {
      assert.equal(port, 'http')
      assert.equal(scopeOf(path), 'open')
    }
    const service = find(manifests, 'Service')
    const { selector, ports } = service['spec'] as unknown as {
      selector: object
      ports: { name: string; targetPort: string }[]
    }
    assert.deepEqual(selector, labels)
    assert.deepEqual(
      ports.map((port) => [port.name, port.targetPort]),
      [['http', 'http']],
    )
    const monitor = find(manifests, 'ServiceMonitor')['spec'] as unknown as {
      selector: { matchLabels: Record<string, string> }
      endpoints: { port: string; path: string; authorization: { credentials: { name: string } } }[]
    }
    assert.deepEqual(monitor.selector.matchLabels, { 'app.kubernetes.io/name': 'tensorpress' })
    assert.equal((service.metadata['labels'] as Record<string, string>)['app.kubernetes.io/name'], 'tensorpress')
    assert.equal(monitor.endpoints[0]!.port, ports[0]!.name)
    assert.equal(scopeOf(monitor.endpoints[0]!.path), 'metrics')
  }
})

test('selectors of Deployment, disruption budget and network policy name the pod', () => {
  const manifests = build('software')
  const { labels } = podOf(manifests)
  const selector = (kind: string, field: string) =>
    (find(manifests, kind)['spec'] as unknown as Record<string, { matchLabels: unknown }>)[field]?.matchLabels
  assert.deepEqual(labels, { 'app.kubernetes.io/name': 'tensorpress', 'app.kubernetes.io/component': 'server' })
  assert.deepEqual(selector('Deployment', 'selector'), labels)
  assert.deepEqual(selector('PodDisruptionBudget', 'selector'), labels)
  assert.deepEqual(selector('NetworkPolicy', 'podSelector'), labels)
})

test('the pod is confined: no root, no capability, no token, read-only root, volumes where the image writes', () => {
  const image = parseDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')).at(-1)!.config
  for (const name of OVERLAYS) {
    const { spec, container } = podOf(build(name))
    assert.equal(spec.automountServiceAccountToken, false)
    // Else the Service's variables (TENSORPRESS_PORT=tcp://...) would be taken for settings.
    assert.equal(spec.enableServiceLinks, false)
    assert.deepEqual(spec.securityContext['seccompProfile'], { type: 'RuntimeDefault' })
    assert.equal(spec.securityContext['runAsNonRoot'], true)
    assert.equal(`${spec.securityContext['runAsUser']}:${spec.securityContext['runAsGroup']}`, image.user)
    assert.equal(spec.securityContext['fsGroup'], spec.securityContext['runAsGroup'])
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    const mounted = container.volumeMounts.map(({ mountPath }) => mountPath)
    assert.deepEqual(mounted, [...image.volumes, '/tmp', '/run/secrets/tensorpress'])
    assert.equal(container.image, `registry.example/tensorpress:${VERSION}`)
  }
})

test('a drain fits into the grace period, and the memory limit leaves the server its share', () => {
  for (const name of OVERLAYS) {
    const manifests = build(name)
    const { spec, container } = podOf(manifests)
    const { drainSeconds } = loadConfig(settingsOf(manifests))
    assert.equal(drainSeconds, 120)
    // 3 s for answers in progress, 2 s until what hangs is cut off, and some for a slow disk.
    assert.ok(spec.terminationGracePeriodSeconds >= drainSeconds + 15)
    const { requests, limits } = container.resources
    const limit = bytesOf(limits['memory'])
    // Server and inspect child: docs/operations.md, Sizing.
    assert.ok(limit * (1 - CHILD_MEMORY_SHARE) >= 768 * 2 ** 20)
    assert.ok(bytesOf(requests['memory']) <= limit)
    assert.equal(limits['nvidia.com/gpu'] !== undefined, name === 'nvidia')
    assert.equal(spec.runtimeClassName, name === 'nvidia' ? 'nvidia' : undefined)
  }
})

test('one writer: a single replica that is replaced, never doubled', () => {
  const spec = find(build('software'), 'Deployment')['spec'] as unknown as { replicas: number; strategy: unknown }
  assert.equal(spec.replicas, 1)
  assert.deepEqual(spec.strategy, { type: 'Recreate' })
})

test('from the pod only DNS and public addresses can be reached, not the cloud metadata service', () => {
  const policy = find(build('nvidia'), 'NetworkPolicy')['spec'] as unknown as {
    policyTypes: string[]
    egress: { to: { ipBlock?: { cidr: string; except: string[] } }[]; ports: { protocol: string; port: number }[] }[]
  }
  assert.deepEqual(policy.policyTypes, ['Ingress', 'Egress'])
  const [dns, web] = policy.egress
  assert.equal(policy.egress.length, 2)
  assert.deepEqual(
    dns!.ports.map(({ port }) => port),
    [53, 53],
  )
  assert.deepEqual(web!.ports, [{ protocol: 'TCP', port: 443 }])
  const [ipv4, ipv6] = web!.to.map(({ ipBlock }) => ipBlock!)
  // The same ranges that the server itself keeps webhooks from; what lies outside of 2000::/3 needs no mention.
  assert.equal(ipv4!.cidr, '0.0.0.0/0')
  assert.deepEqual(ipv4!.except, BLOCKED_IPV4)
  assert.equal(ipv6!.cidr, '2000::/3')
  assert.deepEqual(
    ipv6!.except,
    BLOCKED_IPV6.filter((range) => !['::/3', '4000::/2', '8000::/1'].includes(range)),
  )
  assert.ok(ipv4!.except.includes('169.254.0.0/16'))
})
