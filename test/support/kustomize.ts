// The result of `kustomize build` for what k8s/ uses of it: resources, components, labels, images, strategic-merge patches from
// files, config maps from files. Anything else in a kustomization is an error. For hosts without kubectl; where kubectl is there,
// a test compares the two. Entry: buildKustomization. https://kubectl.docs.kubernetes.io/references/kustomize/

import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parse, parseAllDocuments } from 'yaml'

export type Value = string | number | boolean | null | Value[] | { [name: string]: Value }
export type Mapping = { [name: string]: Value }

export interface Manifest extends Mapping {
  apiVersion: string
  kind: string
  metadata: { name: string } & Mapping
}

interface Kustomization {
  apiVersion: string
  kind: 'Kustomization' | 'Component'
  resources?: string[]
  components?: string[]
  patches?: { path: string }[]
  labels?: { pairs: Record<string, string> }[]
  images?: { name: string; newName?: string; newTag?: string }[]
  configMapGenerator?: {
    name: string
    files: string[]
    options?: { labels?: Record<string, string>; disableNameSuffixHash: true }
  }[]
}

const KNOWN = ['apiVersion', 'kind', 'resources', 'components', 'patches', 'labels', 'images', 'configMapGenerator']

/** The field that names an element of a list; other lists are replaced whole. */
const MERGE_KEYS: Record<string, string> = {
  containers: 'name',
  env: 'name',
  volumes: 'name',
  volumeMounts: 'mountPath',
}

/** `folder` holds a kustomization.yaml; `below` is what a component changes. */
export function buildKustomization(folder: string, below: Manifest[] = []): Manifest[] {
  const path = join(folder, 'kustomization.yaml')
  const spec = parse(readFileSync(path, 'utf8')) as Kustomization
  const unknown = Object.keys(spec).filter((name) => !KNOWN.includes(name))
  if (unknown.length > 0) throw new Error(`${path}: ${unknown.join(', ')} is not supported here`)
  let manifests = [...below]
  for (const resource of spec.resources ?? []) {
    const from = join(folder, resource)
    manifests.push(...(existsSync(join(from, 'kustomization.yaml')) ? buildKustomization(from) : readManifests(from)))
  }
  for (const generator of spec.configMapGenerator ?? []) manifests.push(generate(folder, generator))
  for (const component of spec.components ?? []) manifests = buildKustomization(join(folder, component), manifests)
  for (const patch of spec.patches ?? []) {
    for (const change of readManifests(join(folder, patch.path)))
      applyPatch(manifests, change, join(folder, patch.path))
  }
  for (const { pairs } of spec.labels ?? []) {
    for (const manifest of manifests) {
      manifest.metadata['labels'] = { ...(manifest.metadata['labels'] as Mapping | undefined), ...pairs }
    }
  }
  for (const image of spec.images ?? []) for (const manifest of manifests) renameImage(manifest, image)
  refuseDuplicates(manifests, path)
  return manifests
}

export function readManifests(path: string): Manifest[] {
  return parseAllDocuments(readFileSync(path, 'utf8')).map((document) => {
    if (document.errors.length > 0) throw new Error(`${path}: ${document.errors[0]!.message}`)
    return document.toJS() as Manifest
  })
}

function generate(
  folder: string,
  { name, files, options }: NonNullable<Kustomization['configMapGenerator']>[number],
): Manifest {
  if (options?.disableNameSuffixHash !== true) throw new Error(`${folder}: a name with a hash is not supported here`)
  const data = Object.fromEntries(files.map((file) => [basename(file), readFileSync(join(folder, file), 'utf8')]))
  const labels = options.labels === undefined ? {} : { labels: options.labels }
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, ...labels }, data }
}

function applyPatch(manifests: Manifest[], patch: Manifest, path: string): void {
  const index = manifests.findIndex(
    ({ apiVersion, kind, metadata }) =>
      apiVersion === patch.apiVersion && kind === patch.kind && metadata.name === patch.metadata.name,
  )
  if (index === -1) throw new Error(`${path}: there is no ${patch.kind} ${patch.metadata.name} to change`)
  manifests[index] = merge(manifests[index]!, patch, '') as Manifest
}

/** A strategic merge: mappings by key, lists of MERGE_KEYS by element (the patch's first), null takes a key away. */
function merge(base: Value | undefined, patch: Value, field: string): Value {
  if (isMapping(patch) && isMapping(base)) {
    if (Object.keys(patch).some((name) => name.startsWith('$')))
      throw new Error(`${field}: directives are not supported`)
    const result = { ...base }
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete result[name]
      else result[name] = merge(base[name], value, name)
    }
    return result
  }
  const key = MERGE_KEYS[field]
  if (key === undefined || !Array.isArray(patch) || !Array.isArray(base)) return patch
  const id = (item: Value) => (isMapping(item) ? item[key] : undefined)
  const changed = base.map((item) => {
    const change = patch.find((candidate) => id(candidate) === id(item))
    return change === undefined ? item : merge(item, change, '')
  })
  return [...patch.filter((item) => !base.some((other) => id(other) === id(item))), ...changed]
}

function renameImage(value: Value, image: { name: string; newName?: string; newTag?: string }): void {
  if (Array.isArray(value)) {
    for (const item of value) renameImage(item, image)
  } else if (isMapping(value)) {
    if (value['image'] === image.name) value['image'] = `${image.newName ?? image.name}:${image.newTag ?? 'latest'}`
    for (const item of Object.values(value)) renameImage(item, image)
  }
}

function refuseDuplicates(manifests: Manifest[], path: string): void {
  const names = manifests.map(({ kind, metadata }) => `${kind}/${metadata.name}`)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new Error(`${path}: ${twice} twice`)
}

function isMapping(value: Value | undefined): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
