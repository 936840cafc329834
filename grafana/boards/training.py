"""Training: do the runs learn, does the machine keep up, and was anything asked of them?"""

from __future__ import annotations

from boards.frame import Annotation, dashboard, variable
from boards.panels import ANY_IS_BAD, ANY_IS_NEWS, Json, lines, stat, states, table, training_link
from boards.queries import NOT_A_NUMBER, OF_RUNS, STREAM, latest

COMMAND_TIMES = f"max by (stream, command, mode) (streamd_run_command_timestamp_seconds{{{STREAM}}})"
CHOSEN = latest("metric", ', metric=~"$metric"')
NO_ANSWER = f'sum(streamd_run_acknowledgements{{{STREAM}, outcome="none"}}) or vector(0)'

_LOG = {"scaleDistribution": {"type": "log", "log": 10}}
_STEPPED = {"lineInterpolation": "stepAfter", "lineWidth": 2}


def board() -> Json:
    return dashboard(
        "training",
        "Do the runs learn, does the machine keep up, and was anything asked of them? Orange: an alert fires. "
        "Red: a loss or a gradient is not a number. Blue: a command was asked.",
        {"": _numbers(), "Learning": _learning(), "Machine": _machine(), "Closed loop": _loop()},
        variable("metric", "Metric", f"label_values(streamd_run_metric{{{STREAM}}}, metric)"),
        stream=variable("stream", "Run", "label_values(streamd_run_step, stream)"),
        firing=f"streamd_alerts_firing{{{STREAM}}} {OF_RUNS}",
        annotations=(
            Annotation(
                "Not a number", "red", f"{NOT_A_NUMBER} > 0", "{{stream}}", "{{metric}} is not a number", "metric"
            ),
            # Of each command its latest time, which Grafana draws once, where it was.
            Annotation(
                "Commands", "blue", f"{COMMAND_TIMES} * 1000", "{{stream}}", "{{command}} ({{mode}})", "mode", True
            ),
        ),
    )


def _numbers() -> list[Json]:
    return [
        stat(
            "Runs",
            "Runs that were heard of and are not forgotten, at most as many as may have labels. Those that are over "
            "stay until others take their place.",
            f"count(max by (stream) (streamd_run_step{{{STREAM}}}))",
            width=4,
        ),
        stat(
            "Alerts firing",
            "Open alerts on the chosen runs. Above 0: the table at the end names the rules; `streamd tail` says since "
            "which step.",
            f"sum(streamd_alerts_firing{{{STREAM}}} {OF_RUNS}) or vector(0)",
            steps=ANY_IS_NEWS,
            width=4,
        ),
        stat(
            "Not a number",
            "Losses and gradient norms that are NaN or infinite at this moment. Above 0: that run learns nothing any "
            "more; go back to a checkpoint from before it began.",
            f"sum({NOT_A_NUMBER})",
            steps=ANY_IS_BAD,
            width=4,
        ),
        stat(
            "Silent for",
            "Since the quietest of the chosen runs was last heard of, by its own clock. Longer than its steps take: it "
            "hangs, died, or is over. Choose the run first.",
            f"max(time() - streamd_run_timestamp_seconds{{{STREAM}}})",
            unit="s",
            steps=((0, "green"), (600, "orange"), (1800, "red")),
            width=4,
        ),
        stat(
            "Commands asked",
            "What streamd asked of the chosen runs. In shadow mode nobody obeys: compare it with what people did, then "
            "enforce.",
            f"sum(streamd_run_commands{{{STREAM}}}) or vector(0)",
            decimals=0,
            width=4,
        ),
        stat(
            "Without an answer",
            "Enforced commands that were not acknowledged in time. Above 0: the job is gone, or does not listen; it "
            "goes on as if nothing were wrong.",
            NO_ANSWER,
            steps=ANY_IS_BAD,
            width=4,
        ),
    ]


def _learning() -> list[Json]:
    return [
        lines(
            "Loss",
            "The training loss as it was last sent. A jump that is gone at the next step was the batch; one that stays "
            "is a fault. A gap under red: not a number. See what it did after each command.",
            {"{{stream}} {{metric}}": latest("loss")},
            size=(24, 10),
        ),
        lines(
            "Gradient norm",
            "It often rises some steps before the loss does. Ten times its level: lower the learning rate or clip. "
            "Towards 0 while the loss is still high: nothing is learned.",
            {"{{stream}} {{metric}}": latest("gradient_norm")},
            custom=_LOG,
        ),
        lines(
            "Learning rate",
            "As the optimizer has it. A step down that your schedule does not know of was `reduce_lr`; a step up just "
            "before the loss rises is the first suspect.",
            {"{{stream}} {{metric}}": latest("learning_rate")},
            unit="sci",
        ),
        lines(
            "Other metrics",
            "Evaluations and all else that is sent, in their own units: choose one or two above. Worse in evaluation "
            "while the loss falls: it overfits. 20 at most.",
            {"{{stream}} {{metric}}": f"topk(20, {CHOSEN})"},
        ),
        lines(
            "Step",
            "How far each run is. Flat: it hangs or is over. A fall: it went back to a checkpoint, or was started "
            "again. A gentler slope: slower steps.",
            {"{{stream}}": f"max by (stream) (streamd_run_step{{{STREAM}}})"},
            decimals=0,
            min=0,
        ),
    ]


def _machine() -> list[Json]:
    return [
        lines(
            "Memory in use",
            "Share of GPU and host memory. Above the line for long: the next larger batch ends the run. A slope that "
            "never ends: something is kept from step to step.",
            {"{{stream}} {{memory}}": f"max by (stream, memory) (streamd_run_memory_ratio{{{STREAM}}})"},
            unit="percentunit",
            steps=((0, "green"), (0.9, "red")),
            min=0,
            max=1,
        ),
        lines(
            "Time of a step",
            "The whole step, and its part that waited for data. When they are near each other the loader is too slow: "
            "more workers or faster storage. Growing alone: the machine is shared, or batches grew.",
            {
                "{{stream}} step": f"max by (stream) (streamd_run_step_seconds{{{STREAM}}})",
                "{{stream}} data": f"max by (stream) (streamd_run_data_wait_seconds{{{STREAM}}})",
            },
            unit="s",
            min=0,
        ),
        lines(
            "Utilisation",
            "Of GPU and CPU. GPU low and CPU high: preparing the data takes the time. Both low: the run waits for "
            "storage or for other machines.",
            {"{{stream}} {{processor}}": f"max by (stream, processor) (streamd_run_busy_ratio{{{STREAM}}})"},
            unit="percentunit",
            min=0,
            max=1,
        ),
        lines(
            "Values that were not numbers",
            "Counted at every step, so that one between two scrapes is not missed. One now and then is loss scaling at "
            "work; a slope that does not end is a run that has diverged.",
            {"{{stream}}": f"sum by (stream) (streamd_run_nonfinite_values{{{STREAM}}})"},
            custom=_STEPPED,
            decimals=0,
            min=0,
        ),
    ]


def _loop() -> list[Json]:
    return [
        lines(
            "Commands",
            "Each step up is a command that streamd asked for. The same one again and again: what it does is no "
            "remedy, and a person should look.",
            {"{{stream}} {{command}} ({{mode}})": f"sum by (stream, command, mode) (streamd_run_commands{{{STREAM}}})"},
            custom=_STEPPED,
            decimals=0,
            min=0,
        ),
        lines(
            "Acknowledgements",
            "How the runs answered, also to commands by hand. `refused`: the job does not allow it. `failed`: see the "
            "job's log. `expired`: it came too late. `none`: no answer in time.",
            {"{{stream}} {{outcome}}": f"sum by (stream, outcome) (streamd_run_acknowledgements{{{STREAM}}})"},
            custom=_STEPPED,
            decimals=0,
            min=0,
        ),
        states(
            "Severity of each run",
            "When each run was in trouble, and for how long. Runs on one machine that begin together: look at the "
            "machine first.",
            "{{stream}}",
            f"max by (stream) (streamd_stream_severity{{{STREAM}}} {OF_RUNS})",
            training_link("${__field.labels.stream:percentencode}"),
        ),
        table(
            "Firing now",
            "The rules that speak, critical first. A rule that speaks on every run has thresholds that do not fit "
            "them; one run with several rules is really ill.",
            f"sum by (stream, detector, severity) (streamd_alerts_firing{{{STREAM}}} {OF_RUNS})",
            ("severity", "stream", "detector"),
            "alerts",
            size=(24, 7),
            noValue="nothing fires",
            links=[training_link("${__data.fields.stream:percentencode}")],
        ),
    ]
