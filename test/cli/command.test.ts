import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Command, parseCommandLine } from '../../src/cli/command.ts'
import { commandHelp, generalHelp } from '../../src/cli/help.ts'
import { AppError } from '../../src/errors.ts'
import { nearest } from '../../src/nearest.ts'

const command: Command = {
  name: 'compress',
  summary: 'compress a model',
  description: ['One paragraph.'],
  positionals: [{ name: 'MODEL', summary: 'a file', required: true }],
  options: {
    recipe: { value: 'R', short: 'r', summary: 'what to do' },
    require: { value: 'COND', summary: 'a condition', multiple: true },
    force: { summary: 'overwrite' },
  },
  examples: [{ line: 'tensorpress compress a.onnx -r int8', meaning: 'makes a.int8.onnx' }],
  run: async () => 0,
}

const problemOf = (argv: string[]): string => {
  try {
    parseCommandLine(command, argv)
  } catch (error) {
    assert(error instanceof AppError)
    assert.equal(error.code, 'usage')
    return error.detail
  }
  return ''
}

test('reads long, short, joined and repeated options and the positional between them', () => {
  const args = parseCommandLine(command, ['-r', 'int8', 'a.onnx', '--require=x=1', '--require', 'y=2', '--force'])
  assert.deepEqual(args.positionals, ['a.onnx'])
  assert.equal(args.text('recipe'), 'int8')
  assert.deepEqual(args.texts('require'), ['x=1', 'y=2'])
  assert.equal(args.given('force'), true)
})

test('everything after -- is a positional, even with a dash', () => {
  assert.deepEqual(parseCommandLine(command, ['--', '-odd.onnx']).positionals, ['-odd.onnx'])
})

test('an option that was not declared is a bug, not an answer', () => {
  assert.throws(() => parseCommandLine(command, ['a']).text('nonsense'), /declares no option nonsense/)
})

test('an unknown option is refused with the nearest known one', () => {
  assert.match(problemOf(['a', '--recipee', 'int8']), /unknown option --recipee; did you mean --recipe\?/)
  assert.match(problemOf(['a', '--zzzzzzz']), /unknown option --zzzzzzz \(/)
})

test('a missing value, a value too much and a value given twice are refused by name', () => {
  assert.match(problemOf(['a', '--recipe']), /--recipe needs a value: --recipe R/)
  assert.match(problemOf(['a', '--recipe', '--force']), /--recipe needs a value, found the option --force/)
  assert.match(problemOf(['a', '--force=yes']), /--force takes no value, found "yes"/)
  assert.match(problemOf(['a', '-r', 'int8', '-r', 'int4']), /-r was given twice: int8 and int4/)
})

test('a missing and an extra positional are refused', () => {
  assert.match(problemOf([]), /MODEL is missing: a file/)
  assert.match(problemOf(['a', 'b']), /unexpected argument "b"/)
})

test('suggests a slip of the hand and nothing for a different word', () => {
  assert.equal(nearest('compres', ['compress', 'inspect']), 'compress')
  assert.equal(nearest('inpsect', ['compress', 'inspect']), 'inspect')
  assert.equal(nearest('destroy', ['compress', 'inspect']), null)
})

test('the help of a command shows synopsis, options with placeholders and examples', () => {
  assert.equal(
    commandHelp(command),
    `Usage: tensorpress compress MODEL [OPTIONS]

Compress a model.

One paragraph.

Arguments:
  MODEL  a file

Options:
  -r, --recipe R      what to do
      --require COND  a condition (may be repeated)
      --force         overwrite
  -h, --help          this text

Examples:
  tensorpress compress a.onnx -r int8
      makes a.int8.onnx
`,
  )
})

test('the general help lists commands and exit codes and keeps to 100 columns', () => {
  const text = generalHelp([{ name: 'serve', summary: 'serve the REST API' }], '1.2.3')
  assert.match(text, /^tensorpress 1\.2\.3: /)
  assert.match(text, /^ {2}serve {2}serve the REST API$/m)
  assert.match(text, /^ {2}4 {4}a requirement is not met/m)
  assert.deepEqual(
    text.split('\n').filter((line) => line.length > 100),
    [],
  )
})
