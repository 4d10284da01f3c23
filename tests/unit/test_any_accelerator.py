"""No code asks for a CUDA device by name, so that other accelerators run it too."""

import ast
import re
from types import SimpleNamespace

import pytest
from snakemake import parser

from tests.support.imports import ROOT

ALLOWED = {
    # Without effect on other devices.
    ("fcotvl/train/loop.py", "torch.backends.cuda.enable_cudnn_sdp"),
    ("fcotvl/core/processes.py", "torch.backends.cudnn.allow_tf32"),
    # Stands beside what other kinds of accelerators have in its place.
    ("fcotvl/launcher.py", "cuda"),
    ("fcotvl/train/loop.py", "cuda"),
    ("fcotvl/launcher.py", "CUDA_VISIBLE_DEVICES"),
    ("fcotvl/launcher.py", "CUBLAS_WORKSPACE_CONFIG"),
    # How lm-eval names an accelerator of any kind by default.
    ("fcotvl/harness/model.py", "cuda"),
    ("fcotvl/harness/model.py", "cuda:0"),
}
"""File, and what it may name."""

MODULES = {"torch.cuda", "torch.backends.cuda", "torch.backends.cudnn", "torch.version.cuda"}
MODULES |= {"apex", "bitsandbytes", "cupy", "flash_attn", "nvtx", "pycuda", "pynvml", "transformer_engine", "triton"}
MODULES |= {"xformers"}
MEMBERS = {"cuda", "is_cuda"}
"""Of a tensor or a module."""
TEXT = re.compile(r"cuda(:\d*)?|nccl|nvidia-smi|flash_attention_\d|(CUDA|CUBLAS|CUDNN|NCCL|NVIDIA)_[A-Z_]+")


class Finder(ast.NodeVisitor):
    """Collects what runs on CUDA devices alone."""

    def __init__(self):
        self.names = {}
        """The full name of each name that an import brings."""
        self.found = set()

    def check(self, full):
        parts = full.split(".")
        if any(".".join(parts[:n]) in MODULES for n in range(1, len(parts) + 1)):
            self.found.add(full)
            return True
        return False

    def visit_Import(self, node):
        for one in node.names:
            self.names[one.asname or one.name.partition(".")[0]] = one.name if one.asname else one.name.split(".")[0]
            self.check(one.name)

    def visit_ImportFrom(self, node):
        for one in node.names:
            self.names[one.asname or one.name] = full = f"{node.module}.{one.name}"
            self.check(full)

    def visit_Attribute(self, node):
        inner, parts = node, []
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        name = self.names.get(inner.id) if isinstance(inner, ast.Name) else None
        if name and self.check(".".join([name, *reversed(parts)])):
            return
        if node.attr in MEMBERS:
            self.found.add(f".{node.attr}")
        self.visit(node.value)

    def visit_Constant(self, node):
        if isinstance(node.value, str) and TEXT.fullmatch(node.value):
            self.found.add(node.value)


def of_cuda_alone(source):
    finder = Finder()
    finder.visit(ast.parse(source))
    return finder.found


def python_of(path):
    """A file's text as Python: Snakemake's own translation of its rules."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    source = SimpleNamespace(get_path_or_uri=lambda secret_free: str(path))
    workflow = SimpleNamespace(sourcecache=SimpleNamespace(open=lambda _: path.open(encoding="utf-8")))
    return parser.parse(source, workflow, {})[0]


def test_no_code_needs_a_cuda_device():
    paths = [path for folder in ("fcotvl", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    paths += [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    files = {str(path.relative_to(ROOT)): path for path in paths}
    assert len([name for name in files if name.startswith("fcotvl/")]) > 200
    assert {"benchmarks/train.py", "workflow/rules/common.smk"} <= files.keys()
    found = {(name, what) for name, path in files.items() for what in of_cuda_alone(python_of(path))}
    assert found == ALLOWED


def test_who_finds_a_device_keeps_all_of_float32():
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "fcotvl").rglob("*.py")}
    finders = {name for name, source in sources.items() if re.search(r"\bPartialState\b|\bAccelerator\b", source)}
    assert finders == {"fcotvl/inference/sharing.py", "fcotvl/train/loop.py"}  # tests/unit/train/test_loop.py
    assert "use_full_float32()" in sources["fcotvl/stages/serve.py"]  # whose server finds the device itself


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.cuda.synchronize()", "torch.cuda.synchronize"),
        ("import torch as t\nx = t.cuda.amp.autocast()", "torch.cuda.amp.autocast"),
        ("import torch\nif torch.version.cuda: pass", "torch.version.cuda"),
        ("import torch\ntorch.backends.cudnn.benchmark = True", "torch.backends.cudnn.benchmark"),
        ("from torch import backends as b\nb.cuda.matmul.allow_tf32 = True", "torch.backends.cuda.matmul.allow_tf32"),
        ("import torch.cuda.nvtx", "torch.cuda.nvtx"),
        ("from torch import cuda", "torch.cuda"),
        ("from torch.cuda import Event as E", "torch.cuda.Event"),
        ("def f():\n    from triton import jit", "triton.jit"),
        ("import flash_attn", "flash_attn"),
        ("model.cuda()", ".cuda"),
        ("x = make(1).half().cuda(0)", ".cuda"),
        ("if x.is_cuda: pass", ".is_cuda"),
        ("x.to('cuda')", "cuda"),
        ("x = zeros(3, device='cuda:0')", "cuda:0"),
        ("x.to(f'cuda:{rank}')", "cuda:"),
        ("getattr(torch, 'cuda')", "cuda"),
        ("DEFAULTS = {'device': ['cuda']}", "cuda"),
        ("init_process_group('nccl')", "nccl"),
        ("os.environ['CUDA_VISIBLE_DEVICES'] = ''", "CUDA_VISIBLE_DEVICES"),
        ("load(attn_implementation='flash_attention_2')", "flash_attention_2"),
        ("run(['nvidia-smi'])", "nvidia-smi"),
    ],
)
def test_what_runs_on_cuda_devices_alone_is_found(source, found):
    assert of_cuda_alone(source) == {found}


def test_words_about_cuda_are_no_use_of_it():
    source = (
        '"""On cuda, npu, ..."""\nimport torch\n# torch.cuda\nx = torch.accelerator.device_count()\ncuda = "no cuda"'
    )
    assert of_cuda_alone(source) == set()


def test_rules_of_snakemake_are_read(tmp_path):
    rule = "rule one:\n    output: 'x'\n    params: device='cuda'\n    shell: 'touch {output}'\n"
    (tmp_path / "one.smk").write_text(rule)
    assert of_cuda_alone(python_of(tmp_path / "one.smk")) == {"cuda"}
