// Mutations of JSON, YAML, Python literals, key=value lists and header lines by token: a token is removed, repeated, swapped,
// replaced by one of its kind or by a hostile one; brackets are nested deep. Entry: mutateText.

import type { Dice } from './random.ts'

const TOKEN =
  /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[\p{L}_][\p{L}\p{N}_.-]*|\r?\n[ \t]*|\s+|./gsu

export const HOSTILE_NUMBERS: readonly string[] = [
  '0',
  '-0',
  '-1',
  '1',
  '0.5',
  '1e400',
  '-1e400',
  '1e-400',
  '4294967296',
  '9007199254740991',
  '9007199254740992',
  '9223372036854775807',
  '18446744073709551616',
  '1'.repeat(400),
  '1e5',
  '00',
  '0x10',
  '.5',
  'NaN',
  'Infinity',
]

export const HOSTILE_WORDS: readonly string[] = [
  'null',
  'true',
  'false',
  'True',
  'None',
  '""',
  '"__proto__"',
  '"constructor"',
  '"toString"',
  '__proto__',
  '{}',
  '[]',
  '[[]]',
  '"\\ud800"',
  '"\\u0000"',
  '"../x"',
  '"a/b"',
  '"\ufeff"',
  `"${'n'.repeat(6000)}"`,
  '{"a":1,"a":2}',
  ',',
  ':',
  '"',
  "'",
  '\\',
  '\0',
  '\u2028',
]

function hostile(token: string, dice: Dice, words: readonly string[]): string {
  if (/^-?\d/.test(token)) {
    const value = Number(token)
    if (dice.chance(0.4) && Number.isSafeInteger(value)) return String(value + dice.pick([-1, 1, 2, 4, 8, -8, 100]))
    if (dice.chance(0.8)) return dice.pick(HOSTILE_NUMBERS)
  }
  return dice.pick(dice.chance(0.5) && words.length > 0 ? words : HOSTILE_WORDS)
}

/** `words` are those that mean something to the reader: keys, dtypes, presets. */
export function mutateText(text: string, other: string, dice: Dice, words: readonly string[] = []): string {
  const tokens = text.match(TOKEN) ?? []
  if (tokens.length === 0) return dice.pick([...words, ...HOSTILE_WORDS])
  const at = dice.below(tokens.length)
  const end = at + dice.few(8)
  const token = tokens[at]!
  switch (dice.below(10)) {
    case 0:
      tokens.splice(at, end - at)
      break
    case 1:
      tokens.splice(end, 0, ...tokens.slice(at, end))
      break
    case 2: {
      const second = dice.below(tokens.length)
      tokens[at] = tokens[second]!
      tokens[second] = token
      break
    }
    case 3:
    case 4:
      tokens[at] = hostile(token, dice, words)
      break
    case 5: {
      // One of its own kind from elsewhere, so that the text stays well-formed.
      const kind = kindOf(token)
      const like = (dice.chance(0.5) ? tokens : (other.match(TOKEN) ?? [])).filter((entry) => kindOf(entry) === kind)
      if (like.length > 0) tokens[at] = dice.pick(like)
      break
    }
    case 6: {
      const [open, close] = dice.pick([
        ['[', ']'],
        ['{"a":', '}'],
        ['(', ')'],
        ['{', '}'],
      ] as const)
      const depth = dice.chance(0.02) ? 20_000 : 1 + dice.below(80)
      tokens[at] = open.repeat(depth) + token + (dice.chance(0.7) ? close.repeat(depth) : '')
      break
    }
    case 7: {
      const theirs = other.match(TOKEN) ?? []
      const from = dice.below(theirs.length + 1)
      tokens.splice(at, dice.below(4), ...theirs.slice(from, from + dice.few(24)))
      break
    }
    case 8:
      tokens[at] = quoted(token) ? changeInside(token, dice) : hostile(token, dice, words)
      break
    default:
      return tokens.slice(0, at).join('')
  }
  return tokens.join('')
}

function kindOf(token: string): string {
  if (quoted(token)) return 'string'
  if (/^-?\d/.test(token)) return 'number'
  if (/^[\p{L}_]/u.test(token)) return 'word'
  return /^\s/.test(token) ? 'space' : token
}

function quoted(token: string): boolean {
  return token.length > 1 && (token[0] === '"' || token[0] === "'")
}

function changeInside(token: string, dice: Dice): string {
  const inside = token.slice(1, -1)
  const at = dice.below(inside.length + 1)
  const piece = dice.pick([
    '',
    'x',
    '\\',
    '\\u',
    '\\ud83d',
    '\n',
    '\t',
    '*',
    '**',
    '/',
    '.',
    '..',
    '\u00e9',
    '\u{1f600}',
    '\0',
    '[',
    '{',
  ])
  return token[0] + inside.slice(0, at) + piece + inside.slice(at + dice.below(2)) + token.at(-1)
}
