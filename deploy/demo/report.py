"""The report at the end of the demo: what happened, measured, and where to look."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from deploy.demo.tale import Chapter, Link, Rescue, Tale, Timeline
from domain.money import Money

_WIDTH = 118


def console() -> Console:
    """A console wide enough for the tables where the output is no terminal."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=_WIDTH)


def announce(chapter: Chapter, console: Console) -> None:
    """One finished chapter, while the story goes on."""
    mark = Text("✗", style="bold red") if chapter.error else Text("✓", style="bold green")
    console.print(mark, Text(chapter.title, style="bold"), Text(f"{chapter.seconds:.1f} s", style="dim"))
    for fact in chapter.facts:
        console.print(Padding(Text(fact), (0, 0, 0, 2)))
    if chapter.error:
        console.print(Padding(Text(chapter.error, style="red"), (0, 0, 0, 2)))


def show(tale: Tale, console: Console) -> None:
    """The whole report. What the story did not reach is left out."""
    console.print()
    console.print(_verdict(tale))
    sections: Iterable[tuple[str, RenderableType | None]] = (
        ("The timelines", _timelines(tale.timelines)),
        ("The worker that died", _rescue(tale.rescue) if tale.rescue else None),
        ("The ledger of Maya's purchase", _ledger(tale.ledger) if tale.ledger else None),
        ("What RabbitMQ carried and what the mail said", _messages(tale, beside=console.width >= 100)),
        ("Look for yourself", _links(tale) if tale.links else None),
    )
    for title, section in sections:
        if section is not None:
            console.print(Padding(Rule(Text(title, style="bold"), align="left", style="dim"), (1, 0, 0, 0)))
            console.print(section)
    console.print()


def _verdict(tale: Tale) -> Panel:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=1)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for chapter in tale.chapters:
        mark = Text("✗", style="bold red") if chapter.error else Text("✓", style="bold green")
        table.add_row(mark, Text(chapter.title), Text(f"{chapter.seconds:.1f} s", style="dim"))
    if tale.failure:
        verdict = Text(f"The story broke off after {tale.seconds:.1f} s: {tale.failure}", style="bold red")
    else:
        verdict = Text(f"Every step held. The story took {tale.seconds:.1f} s.", style="bold green")
    return Panel(
        Group(table, Text(), verdict),
        title=Text(" Lyceum: a story of four purchases ", style="bold"),
        border_style="red" if tale.failure else "green",
        box=box.ROUNDED,
        padding=(1, 2),
    )


def _timelines(timelines: Sequence[Timeline]) -> RenderableType | None:
    return Group(*(Padding(_timeline(timeline), (1, 0, 0, 0)) for timeline in timelines)) if timelines else None


def _timeline(timeline: Timeline) -> Table:
    table = Table(
        title=Text(timeline.title, style="bold cyan"),
        title_justify="left",
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, style="magenta")
    table.add_column(ratio=1)
    for entry in timeline.entries:
        sentence = Text(str(entry["message"]))
        if entry.get("next_step"):
            sentence.append(f"\nnext: {entry['next_step']}", style="dim")
            if entry.get("next_at"):
                sentence.append(f", until {_moment(entry['next_at'])}", style="dim")
        table.add_row(_clock(entry["at"]), str(entry.get("actor", "")), sentence)
    return table


def _rescue(rescue: Rescue) -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column()
    for seconds, what in (
        (0.0, f"SIGKILL to worker {rescue.old_pid}, the only one"),
        (rescue.charged, "Samuel's card is charged; the webhook is stored and acknowledged"),
        (rescue.restarted, f"the supervisor has started worker {rescue.new_pid}"),
        (rescue.granted, "the process went on where it was: booked once, one enrollment, course open"),
    ):
        table.add_row(f"{seconds:+.2f} s", what)
    return table


def _ledger(transactions: Sequence[dict[str, Any]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    currencies = {entry["currency"] for posting in transactions for entry in posting["entries"]}
    debit = credit = 0
    for posting in transactions:
        for entry in posting["entries"]:
            debit, credit = debit + max(entry["amount"], 0), credit - min(entry["amount"], 0)
    currency = currencies.pop() if len(currencies) == 1 else None
    table.add_column("transaction", footer="sum")
    table.add_column("account", footer=f"balance {_money(debit - credit, currency)}")
    table.add_column("debit", justify="right", footer=_money(debit, currency))
    table.add_column("credit", justify="right", footer=_money(credit, currency))
    for posting in transactions:
        for line, entry in enumerate(posting["entries"]):
            amount = entry["amount"]
            table.add_row(
                Text(str(posting["kind"]) if line == 0 else "", style="bold cyan"),
                Text(str(entry["account"])),
                _money(amount, entry["currency"]) if amount > 0 else "",
                _money(-amount, entry["currency"]) if amount < 0 else "",
                end_section=line == len(posting["entries"]) - 1,
            )
    return table


def _money(amount: int, currency: str | None) -> str:
    return str(Money(amount, currency)) if currency else str(amount)


def _messages(tale: Tale, *, beside: bool) -> RenderableType | None:
    panels: list[RenderableType] = []
    if tale.event is not None:
        shown = {key: value for key, value in tale.event.items() if key != "traceparent"}
        panels.append(
            Panel(
                Syntax(json.dumps(shown, indent=2), "json", word_wrap=True, background_color="default"),
                title=f"one of {tale.events_seen} events on the exchange",
                title_align="left",
                border_style="dim",
            )
        )
    if tale.mail is not None:
        head = Text(f"From: {tale.mail['from']}\nTo: {tale.mail['to']}\nSubject: {tale.mail['subject']}\n", style="dim")
        panels.append(
            Panel(
                Group(head, Text(tale.mail["text"].strip())),
                title="Maya's mail",
                title_align="left",
                border_style="dim",
            )
        )
    if not beside:
        return Group(*panels) if panels else None
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid if panels else None


def _links(tale: Tale) -> RenderableType:
    links = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    links.add_column(style="bold", no_wrap=True)
    links.add_column(overflow="fold")
    for link in tale.links:
        links.add_row(link.name, _link(link))
    people = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    people.add_column(style="bold", no_wrap=True)
    people.add_column(no_wrap=True)
    for name, email in tale.accounts:
        people.add_row(name, email)
    return Group(
        links, Text(f"\nAccounts, all with the password {tale.password}", style="bold"), Padding(people, (0, 0, 0, 2))
    )


def _link(link: Link) -> Text:
    return Text.assemble((link.url, f"cyan link {link.url}"), "\n", (link.hint, "dim"))


def _clock(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S.%f")[:-4]


def _moment(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M")
