"""Reading compiled text: a small program written by hand, in the compiler's words, with sums that can be checked."""
# ruff: noqa: E501 - the text is as the compiler writes it

import pytest

from azr_jax.dryrun import counts, hlo

TEXT = """HloModule jit_f, is_scheduled=true

FileNames
1 "/somewhere/azr_jax/learner/step.py"
2 "/elsewhere/site-packages/jax/lax.py"

FunctionNames
1 "step"

FileLocations
1 {file_name_id=1 function_name_id=1 line=33 end_line=33 column=8 end_column=58}
2 {file_name_id=2 function_name_id=1 line=7 end_line=7 column=8 end_column=58}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}


%body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}) parameter(0)
  %x = bf16[8,4]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %gathered = bf16[4,4]{1,0} all-gather(%x), replica_groups=mesh['fsdp'=2,'tensor'=1] {'fsdp'}, frontend_attributes={kernel_metadata={
"note":"an attribute over several lines"
}}, metadata={op_name="jit(f)/gather" stack_frame_id=2}
  %y = f32[8,4]{1,0} convolution(%x, %gathered), dim_labels=bf_io->bf, metadata={stack_frame_id=2}, backend_config={"estimated_cycles":"10"}
  ROOT %t = (s32[]{:T(128)}, f32[8,4]{1,0}) tuple(%y, %y)
}

%condition (p.1: (s32[], bf16[8,4])) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
  %p.1 = (s32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %three), direction=LT
}

%open_condition (p.2: (s32[], bf16[8,4])) -> pred[] {
  %p.2 = (s32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  %end = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%i.1, %end), direction=LT
}

%sliced (big: bf16[100,8], at: s32[]) -> bf16[1,8] {
  %big = bf16[100,8]{1,0} parameter(0)
  %at = s32[]{:T(128)} parameter(1)
  ROOT %cut = bf16[1,8]{1,0} dynamic-slice(%big, %at, %at), dynamic_slice_sizes={1,8}
}

ENTRY %main (a: (s32[], bf16[8,4]), b: bf16[100,8], c: s32[]) -> f32[] {
  %a = (s32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %b = bf16[100,8]{1,0} parameter(1)
  %c = s32[]{:T(128)} parameter(2)
  %thrice = (s32[]{:T(128)}, bf16[8,4]{1,0}) while(%a), condition=%condition, body=%body
  %often = (s32[]{:T(128)}, bf16[8,4]{1,0}) while(%a), condition=%open_condition, body=%body
  %fusion = bf16[1,8]{1,0} fusion(%b, %c), kind=kLoop, calls=%sliced
  ROOT %done = f32[]{:T(128)} constant(0)
}
"""


def test_loops_count_as_often_as_they_run():
    # One product of [8, 4] with [4, 4] is 2 x 8 x 4 x 4 = 256 operations; 3 rounds, and 5 that the caller knows of.
    counted = counts.count(hlo.parse(TEXT), unknown_trips=(5,))
    assert counted.flops == 256 * (3 + 5)
    assert counted.cycles == 10 * 8
    assert counted.unknown_loops == 1


def test_exchanges_are_read_over_line_ends_with_size_group_and_source():
    (gather,) = counts.count(hlo.parse(TEXT)).collectives
    assert (gather.kind, str(gather.array), gather.group, gather.bytes) == ("all-gather", "bf16[4,4]", 2, 32)
    assert gather.source == "azr_jax/learner/step.py:33"  # the innermost line of this project, not of the library


def test_a_fusion_that_slices_reads_the_slice_alone():
    module = hlo.parse(TEXT)
    main = module.computations["main"]
    # 16 bytes in, 16 bytes out, and the 4 of the index.
    assert counts.moved(module, main, main.by_name["fusion"]) == 36


BRANCHES = """HloModule jit_b, is_scheduled=true

FileNames
1 "/x/azr_jax/rollout/sampling.py"

FileLocations
1 {file_name_id=1 function_name_id=1 line=119 end_line=119 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%looked_for (x.1: f32[8,64]) -> f32[8,64] {
  %x.1 = f32[8,64]{1,0} parameter(0)
  ROOT %twice = f32[8,64]{1,0} add(%x.1, %x.1)
}

%nothing (x.2: f32[8,64]) -> f32[8,64] {
  ROOT %x.2 = f32[8,64]{1,0} parameter(0)
}

ENTRY %main (p: pred[], x: f32[8,64]) -> f32[8,64] {
  %p = pred[] parameter(0)
  %x = f32[8,64]{1,0} parameter(1)
  ROOT %cut = f32[8,64]{1,0} conditional(%p, %x, %x), branch_computations={%nothing, %looked_for}, metadata={op_name="jit(f)/cond" stack_frame_id=1}
}
"""


@pytest.mark.parametrize(
    ("spared", "moved"), [((), 3 * 2048), (("rollout/sampling.py",), 0), (("steps.py",), 3 * 2048)]
)
def test_of_branches_the_dearest_counts_unless_its_file_is_one_where_that_is_spared(spared, moved):
    assert counts.count(hlo.parse(BRANCHES), spared=spared).bytes == moved


PARTS = """HloModule jit_g, is_scheduled=true

%one_row (big.1: bf16[100,8], at.1: s32[]) -> bf16[1,8] {
  %big.1 = bf16[100,8]{1,0} parameter(0)
  %at.1 = s32[]{:T(128)} parameter(1)
  ROOT %cut.1 = bf16[1,8]{1,0} dynamic-slice(%big.1, %at.1, %at.1), dynamic_slice_sizes={1,8}
}

%seen_flat (big.2: bf16[100,8]) -> bf16[800] {
  %big.2 = bf16[100,8]{1,0} parameter(0)
  ROOT %flat = bf16[800]{0} bitcast(%big.2)
}

%through (big: bf16[100,8], at: s32[]) -> bf16[1,8] {
  %big = bf16[100,8]{1,0} parameter(0)
  %at = s32[]{:T(128)} parameter(1)
  %row = bf16[1,8]{1,0} fusion(%big, %at), kind=kLoop, calls=%one_row
  ROOT %twice = bf16[1,8]{1,0} add(%row, %row)
}

%all_of_it (big.3: bf16[100,8]) -> bf16[8] {
  %big.3 = bf16[100,8]{1,0} parameter(0)
  %view = bf16[800]{0} fusion(%big.3), kind=kLoop, calls=%seen_flat
  ROOT %sums = bf16[8]{0} reduce(%view, %view)
}

%tiled_otherwise (input: bf16[100,8]) -> bf16[100,8] {
  %input = bf16[100,8]{1,0:T(32,128)(4,1)} parameter(0)
  ROOT %copy.1 = bf16[100,8]{1,0:T(8,128)(4,1)} copy(%input)
}

%one_row_of_tiles (big.4: bf16[100,8], at.2: s32[]) -> bf16[1,8] {
  %big.4 = bf16[100,8]{1,0:T(32,128)(4,1)} parameter(0)
  %at.2 = s32[]{:T(128)} parameter(1)
  %tiles = bf16[100,8]{1,0:T(8,128)(4,1)} fusion(%big.4), kind=kLoop, output_to_operand_aliasing={{}: (0, {})}, calls=%tiled_otherwise
  ROOT %cut.2 = bf16[1,8]{1,0} dynamic-slice(%tiles, %at.2, %at.2), dynamic_slice_sizes={1,8}
}

%a_row_into_tiles (big.5: bf16[100,8], at.3: s32[], new: bf16[1,8]) -> bf16[100,8] {
  %big.5 = bf16[100,8]{1,0:T(32,128)(4,1)} parameter(0)
  %at.3 = s32[]{:T(128)} parameter(1)
  %new = bf16[1,8]{1,0} parameter(2)
  %tiles.1 = bf16[100,8]{1,0:T(8,128)(4,1)} fusion(%big.5), kind=kLoop, calls=%tiled_otherwise
  ROOT %put = bf16[100,8]{1,0:T(8,128)(4,1)} dynamic-update-slice(%tiles.1, %new, %at.3, %at.3)
}

ENTRY %main (pool: bf16[100,8], c: s32[]) -> bf16[4,8] {
  %pool = bf16[100,8]{1,0} parameter(0)
  %c = s32[]{:T(128)} parameter(1)
  %row_of_pool = bf16[1,8]{1,0} fusion(%pool, %c), kind=kLoop, calls=%through
  %copied_and_changed = bf16[100,8]{1,0} fusion(%pool, %c, %row_of_pool), kind=kLoop, calls=%a_row_into_tiles
  %row_of_tiles = bf16[1,8]{1,0} fusion(%pool, %c), kind=kLoop, calls=%one_row_of_tiles
  %sum_of_pool = bf16[8]{0} fusion(%pool), kind=kLoop, calls=%all_of_it
  %near = (bf16[100,8]{1,0:S(1)}, bf16[100,8]{1,0}, u32[]{:S(2)}) copy-start(%pool)
  %far = (bf16[100,8]{1,0}, bf16[100,8]{1,0}, u32[]{:S(2)}) copy-start(%pool)
  %part = ((bf16[100,8]{1,0}), bf16[10,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%pool), slice={[0:10], [0:8]}
  %queries = bf16[4,8]{1,0} constant(0)
  ROOT %reader.1 = bf16[4,8]{1,0} custom-call(%queries, %pool), custom_call_target="tpu_custom_call"
}
"""


def test_fusions_within_fusions_read_what_the_innermost_reads():
    module = hlo.parse(PARTS)
    main = module.computations["main"]
    assert counts.moved(module, main, main.by_name["row_of_pool"]) == 36
    assert counts.moved(module, main, main.by_name["row_of_tiles"]) == 36  # as matrices of eight bits are read
    assert counts.moved(module, main, main.by_name["copied_and_changed"]) > 1600  # another tiling: all is read
    assert counts.moved(module, main, main.by_name["sum_of_pool"]) == 1600 + 16


def test_a_copy_counts_on_the_sides_that_lie_in_the_chips_memory():
    module = hlo.parse(PARTS)
    main = module.computations["main"]
    assert [counts.moved(module, main, main.by_name[name]) for name in ("near", "far", "part")] == [1600, 3200, 160]


def test_a_kernel_that_picks_pages_reads_what_the_caller_says_and_not_the_pool():
    module = hlo.parse(PARTS)
    whole, picked = counts.count(module), counts.count(module, kernel_reads={"reader": 500.0})
    assert whole.kernels == picked.kernels == {"reader": 1}
    assert whole.bytes - picked.bytes == 1600 - 500


WRITER = """HloModule jit_h, is_scheduled=true

ENTRY %main (pool: bf16[100,8]) -> bf16[100,8] {
  %pool = bf16[100,8]{1,0} parameter(0)
  %new = bf16[4,8]{1,0} constant(0)
  %writer.1 = (bf16[4,8]{1,0}, bf16[100,8]{1,0}) custom-call(%new, %pool), custom_call_target="tpu_custom_call", output_to_operand_aliasing={{1}: (1, {})}
  ROOT %all = bf16[100,8]{1,0} get-tuple-element(%writer.1), index=1
}
"""


def test_a_kernel_that_writes_the_pool_in_place_does_not_write_all_of_it():
    picked = counts.count(hlo.parse(WRITER), kernel_reads={"writer": 500.0})
    assert picked.bytes == 500 + 2 * 64  # what is new, and its other result


def test_a_window_over_padding_counts_only_what_meets_an_input():
    # Heads as a window: 28 outputs, 28 weights, one input; all else is padding.
    assert counts._meetings(1, 28, 28, {"size": "28", "pad": "27_27"}) == 28
    assert counts._meetings(5, 3, 5, {"size": "3", "pad": "1_1"}) == 13


RING = """HloModule jit_g, is_scheduled=true

%all-reduce-scatter.1 (whole: bf16[8,4]) -> bf16[2,4] {
  %whole = bf16[8,4]{1,0} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %summed = bf16[8,4]{1,0} all-reduce(%whole), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %own = bf16[2,4]{1,0} dynamic-slice(%summed, %zero, %zero), dynamic_slice_sizes={2,4}
}

%body (p: (u32[], bf16[8,4])) -> (u32[], bf16[8,4]) {
  %p = (u32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=1
  %next = u32[]{:T(128)} add(%i, %two)
  %sent = (bf16[8,4]{1,0}, bf16[8,4]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %got = bf16[8,4]{1,0} collective-permute-done(%sent)
  ROOT %t = (u32[]{:T(128)}, bf16[8,4]{1,0}) tuple(%next, %got)
}

%condition (p.1: (u32[], bf16[8,4])) -> pred[] {
  %seven = u32[]{:T(128)} constant(7)
  %p.1 = (u32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %i.1 = u32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %seven), direction=LT
}

ENTRY %main (a: (u32[], bf16[8,4]), b: bf16[8,4]) -> bf16[2,4] {
  %a = (u32[]{:T(128)}, bf16[8,4]{1,0}) parameter(0)
  %b = bf16[8,4]{1,0} parameter(1)
  %round = (u32[]{:T(128)}, bf16[8,4]{1,0}) while(%a), condition=%condition, body=%body
  ROOT %scattered = bf16[2,4]{1,0} fusion(%b), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_what_travels_round_a_ring_counts_in_every_round_and_a_scatter_as_what_it_leaves():
    # The counter goes 0, 2, 4, 6: four rounds of 64 bytes, each one array, not the pair that the start gives back.
    assert counts.count(hlo.parse(RING)).exchanged() == {"collective-permute": (256, 256), "reduce-scatter": (16, 0)}
