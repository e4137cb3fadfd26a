// Reads a Dockerfile into stages of instructions: the part of the language that ours uses, and nothing is skipped in silence:
// an instruction or flag outside of it is an error with its line. Entry: parseDockerfile.
// https://docs.docker.com/reference/dockerfile/

export interface Stage {
  /** The image after FROM, variables replaced: a registry name, or the name of an earlier stage. */
  from: string
  name: string | null
  steps: Step[]
  config: ImageConfig
}

/** What changes files, in order, each with the settings in force at that line. */
export type Step = { line: number; env: Record<string, string>; cwd: string; user: string } & (
  | { kind: 'run'; command: string }
  | { kind: 'copy'; from: string | null; sources: string[]; target: string }
)

/** What a container starts with. */
export interface ImageConfig {
  env: Record<string, string>
  workdir: string
  user: string
  volumes: string[]
  ports: string[]
  labels: Record<string, string>
  stopSignal: string
  healthCheck: { options: Record<string, string>; command: string[] } | null
  entrypoint: string[]
  command: string[]
}

interface Line {
  number: number
  word: string
  rest: string
}

export function parseDockerfile(text: string): Stage[] {
  const stages: Stage[] = []
  const globals: Record<string, string> = {}
  for (const { number, word, rest } of logicalLines(text)) {
    const fail = (why: string): never => {
      throw new Error(`Dockerfile line ${number}: ${why} (${word} ${rest})`)
    }
    const stage = stages.at(-1)
    if (stage === undefined && word !== 'ARG' && word !== 'FROM') fail('only ARG may stand before FROM')
    if (word === 'ARG') {
      if (stage !== undefined) fail('ARG inside of a stage is not supported')
      for (const [name, value] of pairs(rest, globals, fail)) globals[name] = value
      continue
    }
    if (word === 'FROM') {
      const match = /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(rest) ?? fail('expected FROM image [AS name]')
      stages.push({ from: expand(match[1]!, globals, fail), name: match[2] ?? null, steps: [], config: emptyConfig() })
      continue
    }
    apply(stage!, { number, word, rest }, fail)
  }
  if (stages.length === 0) throw new Error('Dockerfile: no FROM')
  return stages
}

function apply(stage: Stage, { number, word, rest }: Line, fail: (why: string) => never): void {
  const { config } = stage
  const here = { line: number, env: { ...config.env }, cwd: config.workdir, user: config.user }
  const list = () => jsonList(rest) ?? fail('only the exec form, a JSON list, is supported')
  switch (word) {
    case 'RUN':
      if (rest.startsWith('--') || rest.startsWith('[') || rest.includes('<<')) fail('only the plain shell form')
      stage.steps.push({ ...here, kind: 'run', command: rest })
      return
    case 'COPY': {
      const words = rest.split(/\s+/)
      let from: string | null = null
      while (words[0]?.startsWith('--')) {
        const flag = words.shift()!
        if (!flag.startsWith('--from=')) fail(`flag ${flag} is not supported`)
        from = flag.slice('--from='.length)
      }
      if (words.length < 2 || rest.includes('<<') || rest.includes('$'))
        fail('expected COPY [--from=stage] source... target')
      stage.steps.push({ ...here, kind: 'copy', from, sources: words.slice(0, -1), target: words.at(-1)! })
      return
    }
    case 'WORKDIR':
      if (!rest.startsWith('/')) fail('only an absolute WORKDIR is supported')
      config.workdir = rest
      return
    case 'ENV':
      for (const [name, value] of pairs(rest, config.env, fail)) config.env[name] = value
      return
    case 'LABEL':
      for (const [name, value] of pairs(rest, {}, fail)) config.labels[name] = value
      return
    case 'USER':
      config.user = rest
      return
    case 'EXPOSE':
      config.ports.push(...rest.split(/\s+/))
      return
    case 'VOLUME':
      config.volumes.push(...list())
      return
    case 'STOPSIGNAL':
      config.stopSignal = rest
      return
    case 'ENTRYPOINT':
      config.entrypoint = list()
      return
    case 'CMD':
      config.command = list()
      return
    case 'HEALTHCHECK': {
      const match = /^((?:--[a-z-]+=\S+\s+)*)CMD\s+(.*)$/.exec(rest) ?? fail('expected HEALTHCHECK [options] CMD [...]')
      const options = Object.fromEntries(
        match[1]!.split(/\s+/).flatMap((flag) => {
          const [, name, value] = /^--([a-z-]+)=(.*)$/.exec(flag) ?? []
          return name === undefined || value === undefined ? [] : [[name, value]]
        }),
      )
      config.healthCheck = { options, command: jsonList(match[2]!) ?? fail('CMD takes a JSON list here') }
      return
    }
    default:
      fail('this instruction is not supported')
  }
}

function emptyConfig(): ImageConfig {
  return {
    env: {},
    workdir: '/',
    user: '0:0',
    volumes: [],
    ports: [],
    labels: {},
    stopSignal: 'SIGTERM',
    healthCheck: null,
    entrypoint: [],
    command: [],
  }
}

/** Joins continued lines and drops comment lines, those between continued lines included. */
function logicalLines(text: string): Line[] {
  const lines: Line[] = []
  let joined = ''
  let start = 0
  for (const [index, raw] of text.split('\n').entries()) {
    if (/^\s*#/.test(raw) || (joined === '' && raw.trim() === '')) continue
    if (joined === '') start = index + 1
    const continued = /^(.*)\\\s*$/.exec(raw)
    joined += continued?.[1] ?? raw
    if (continued !== null) continue
    const match = /^\s*([A-Za-z]+)\s+(.*?)\s*$/.exec(joined)
    if (match === null) throw new Error(`Dockerfile line ${start}: not an instruction: ${joined}`)
    lines.push({ number: start, word: match[1]!.toUpperCase(), rest: match[2]! })
    joined = ''
  }
  if (joined !== '') throw new Error(`Dockerfile line ${start}: the last line is continued`)
  return lines
}

/** NAME=value and NAME="value with spaces". */
function pairs(text: string, known: Record<string, string>, fail: (why: string) => never): [string, string][] {
  const found: [string, string][] = []
  const pattern = /\s*([\w.-]+)=(?:"([^"\\]*)"|([^\s"'\\]*))(?=\s|$)/y
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text) ?? fail('expected NAME=value, with double quotes around spaces')
    found.push([match[1]!, expand(match[2] ?? match[3] ?? '', known, fail)])
  }
  return found
}

function expand(text: string, known: Record<string, string>, fail: (why: string) => never): string {
  return text.replaceAll(/\$\{?(\w+)\}?/g, (_, name: string) => known[name] ?? fail(`$${name} is not set`))
}

function jsonList(text: string): string[] | null {
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : null
  } catch {
    return null
  }
}
