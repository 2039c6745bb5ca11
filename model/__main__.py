"""Continue a prompt with a model, token by token.

python -m model lilliput "My father had a small estate"
"""

import codecs
import os
import sys
from collections.abc import Iterable

from data.flags import Parser, add_flags, filled, positive_int
from data.settings import Sampling, Settings


def open_parser() -> Parser:
    parser = Parser(
        prog="python -m model",
        description="Let a model continue a prompt, token by token. <|endoftext|>, which ends a text, is never drawn. "
        "Each text depends only on --seed and its number.",
    )
    parser.add_argument(
        "model",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="gpt2 and its sizes, lilliput, a model or run folder, or owner/name",
    )
    parser.add_argument(
        "prompt", nargs="?", help='the text to continue; "": start a new text (default: read standard input)'
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=os.path.expanduser,
        default=[],
        metavar="FOLDER",
        help="more models, which get the same random numbers (default: none)",
    )
    parser.add_argument(
        "--texts", type=positive_int, default=1, metavar="N", help="texts to write, each with its own random numbers"
    )
    parser.add_argument("--tokens", type=positive_int, default=100, metavar="N", help="new tokens in each text")
    add_flags(parser, Sampling, "sampling", ("temperature", "top_k", "seed"), temperature=0.8, top_k=40)
    add_flags(parser, Settings, "machine", ("device", "dtype"), dtype="float32")  # the same words on every CPU
    return parser


def read_prompt(given: str | None) -> str:
    """Return the prompt `given` on the command line, or else standard input without its last line end."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        print("type the prompt, then Ctrl-D on a new line:", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"the prompt is not UTF-8 (byte {error.start}); convert it") from None


def show_text(tokenizer, prompt: str, tokens: Iterable[int]) -> None:
    """Print `prompt` and then each of `tokens` at once as it is drawn, up to the last whole character.

    Args:
        tokenizer: a tiktoken Encoding.
    """
    # A character may take several tokens: its first bytes wait for the others.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    print(prompt, end="", flush=True)
    for token in tokens:
        print(decoder.decode(tokenizer.decode_single_token_bytes(token)), end="", flush=True)
    print()


def main() -> None:
    parser = open_parser()
    args = parser.parse_args()
    names = [args.model, *args.compare]
    with parser.errors_in_one_line():
        import torch  # only now, see data/flags.py

        from model.device import Machine
        from model.pretrained import load_pretrained, never_drawn, open_model
        from model.sampling import cast_copy, generate

        machine = filled(Machine, vars(args))
        opened = [open_model(name) for name in names]  # before any weights are read: a name may be wrong
        prompt = read_prompt(args.prompt)
        models = [cast_copy(load_pretrained(f).to(machine.device), machine.dtype) for f, _, _ in opened]
        for row in range(args.texts):
            for name, model, (_, config, tokenizer) in zip(names, models, opened):
                if len(names) * args.texts > 1:
                    print(f"--- {name}" + (f", text {row + 1}" if args.texts > 1 else ""))
                # Without a prompt, start a new text: it follows the end of another text.
                ids = tokenizer.encode_ordinary(prompt) or [tokenizer.eot_token]
                if row == 0 and len(ids) > config.block_size:
                    print(f"note: of {len(ids)} tokens {name} sees the last {config.block_size}", file=sys.stderr)
                steps = generate(
                    model,
                    torch.tensor([ids], device=machine.device),
                    args.tokens,
                    temperature=args.temperature,
                    top_k=args.top_k or None,
                    seed=args.seed,
                    first_row=row,
                    banned=never_drawn(tokenizer, config),
                )
                show_text(tokenizer, prompt, (drawn.item() for drawn, _ in steps))


if __name__ == "__main__":
    main()
