"""Each fault of docs/reliability.md has a test: here are the numbers, the faults, and where their tests are."""

import ast
import re

import pytest
from support import ROOT

FOLDER = "tests/faults/"
RESUME = "tests/training/saved_state/test_resume.py"
FETCH, CLI = "tests/data/download/test_fetch.py", "tests/test_cli.py"
LAWS, CHECKPOINT = "tests/transfer/test_laws.py", "tests/training/saved_model/test_checkpoint.py"
STRANGE, FILES = "tests/training/saved_model/test_strange_models.py", "tests/data/formats/test_structure_files.py"
ROWS: dict[int, tuple[str, list[str]]] = {
    1: ("a signal in the middle of an epoch, a second one, Slurm's warning", [
        f"{FOLDER}test_signals.py::test_01_a_signal_in_the_first_minutes_is_continued_to_the_bit",
        f"{FOLDER}test_signals.py::test_01_a_second_signal_ends_at_once",
        f"{FOLDER}test_signals.py::test_01_slurm_warns_and_queues_again",
        f"{RESUME}::test_a_signal_in_a_step_or_in_validation_loses_nothing",
    ]),
    2: ("SIGKILL at any moment, also while a state is written", [
        f"{RESUME}::test_a_kill_while_it_is_written_leaves_the_ones_before",
        f"{FOLDER}test_signals.py::test_02_a_sweep_that_is_started_again_leaves_out_what_is_finished",
        "tests/stages/test_cross_validation.py::test_a_run_that_was_killed_goes_on_with_the_folds_left",
        f"{FOLDER}test_soak.py::test_02_a_kill_at_random_changes_no_bit",
    ]),
    3: ("kill and continue, compared with a run that was never stopped", [f"{RESUME}::test_it_goes_on_bit_for_bit"]),
    4: ("continue with another config", [
        f"{RESUME}::test_more_epochs_and_allowed_changes", f"{RESUME}::test_by_name_and_by_latest",
    ]),
    5: ("a byte of the newest state is wrong", [f"{RESUME}::test_a_damaged_state_is_passed_over_for_the_one_before"]),
    6: ("a truncated, empty or foreign state or model", [
        f"{RESUME}::test_what_cannot_be_gone_on_with", f"{CHECKPOINT}::test_what_is_no_model_folder",
        f"{FOLDER}test_readers.py::test_06_no_state_of_another_kind_is_unexpected",
    ]),
    7: ("a pickle with code, a model that wants to run code", [
        f"{STRANGE}::test_a_head_holds_no_function", f"{STRANGE}::test_no_call_anywhere_and_no_plugin_from_a_file",
        f"{FOLDER}test_readers.py::test_07_a_state_runs_no_code",
    ]),
    8: ("a model of a newer schema, another shape, other elements", [
        "tests/training/saved_model/test_upgrades.py::test_a_newer_schema_asks_for_a_newer_tltool",
        f"{CHECKPOINT}::test_a_changed_cutoff_is_refused_by_name", f"{CHECKPOINT}::test_an_edited_model_is_refused",
    ]),
    9: ("a full disk", [
        f"{FOLDER}test_disks.py::test_09_a_store_is_written_or_it_is_not",
        f"{FOLDER}test_disks.py::test_09_a_full_disk_ends_a_run_with_a_sentence_and_its_status",
        f"{FOLDER}test_disks.py::test_09_a_small_disk_ends_a_run_with_6", f"{FETCH}::test_disk_full",
        f"{FOLDER}test_disks.py::test_09_a_state_that_finds_no_space_leaves_the_one_before",
    ]),
    10: ("a folder that cannot be written", [
        f"{FOLDER}test_disks.py::test_10_folders_that_cannot_be_used_are_said_before_anything_is_computed",
    ]),
    11: ("two processes in one run folder, four in one second", [
        "tests/run_folder/test_owner.py::test_a_folder_is_taken_once", f"{RESUME}::test_a_run_that_works_is_not_taken",
        f"{CLI}::test_four_runs_of_one_second_share_no_folder",
    ]),
    12: ("two processes prepare the same data", [f"{CLI}::test_four_runs_of_one_second_share_no_folder"]),
    13: ("labels that are no finite numbers", [
        "tests/data/test_nothing_usable.py::test_a_label_that_cannot_be_is_left_out_and_counted_whatever_the_adapter",
        "tests/data/formats/test_label_columns.py::test_what_is_there_and_no_number",
    ]),
    14: ("a loss or gradient that is not finite", [
        f"{FOLDER}test_numbers.py::test_14_a_step_that_is_not_finite_is_left_out_and_named",
        f"{FOLDER}test_numbers.py::test_14_after_too_many_the_state_is_from_before",
    ]),
    15: ("out of memory", [
        f"{FOLDER}test_numbers.py::test_15_out_of_memory_names_a_batch_size_that_fits",
        f"{FOLDER}test_numbers.py::test_15_predict_halves_its_batch",
    ]),
    16: ("one large cell among small ones", [
        "tests/data/formats/test_checks_of_files.py::test_two_thousand_sites_take_no_time_that_grows_as_their_square",
    ]),
    17: ("odd cells and tiny data sets", [
        f"{FOLDER}test_numbers.py::test_17_one_bad_structure_never_ends_predict",
        f"{FOLDER}test_numbers.py::test_17_odd_cells_are_rows_of_a_prediction",
        "tests/model/test_norm.py::test_one_row_is_finite_and_evaluation_moves_nothing",
        "tests/data/graph/test_crystal_graphs.py::test_cells_without_neighbours_and_of_one_atom",
    ]),
    18: ("disorder, isotopes, ions, molecules", [
        f"{FILES}::test_isotopes_are_hydrogen", f"{FILES}::test_ions_and_isotopes_in_a_dict_are_elements",
        "tests/stages/test_own_data.py::test_a_disordered_structure_is_a_row",
    ]),
    19: ("an element that the model has never seen", [
        "tests/stages/test_own_data.py::test_transfer_and_predict_on_own_files",
    ]),
    20: ("ids that occur twice, or are paths or formulas of a spreadsheet", [
        "tests/data/test_store.py::test_bad_records",
        "tests/run_folder/test_spreadsheet.py::test_text_that_a_spreadsheet_computes_gets_an_apostrophe",
        "tests/data/adapters/test_folder.py::test_a_path_to_another_folder_is_not_this_file",
    ]),
    21: ("bombs: packed files, nesting, aliases", [
        "tests/data/formats/test_decompress.py::test_a_bomb_is_left_before_it_is_unpacked",
        "tests/training/saved_model/test_plain_yaml.py::test_aliases_are_counted_by_what_they_stand_for",
        f"{STRANGE}::test_a_yaml_is_plain_and_small",
    ]),
    22: ("downloads that fail, stall or lie", [
        f"{FETCH}::test_goes_on_where_it_stopped", f"{FETCH}::test_what_cannot_be_had_is_one_sentence",
        f"{FETCH}::test_a_busy_server_is_left_alone_as_long_as_it_asks", f"{FETCH}::test_a_wrong_hash_replaces_nothing",
        f"{FETCH}::test_killed_at_any_moment_it_goes_on", f"{FETCH}::test_offline_and_unknown_schemes",
    ]),
    23: ("files of Alexandria that are not whole", [
        "tests/data/adapters/test_alexandria.py::test_both_layouts",
        "tests/data/adapters/test_alexandria.py::test_bad_entries_are_counted",
        "tests/data/adapters/test_alexandria.py::test_damaged_and_missing_files",
        "tests/data/formats/test_decompress.py::test_several_streams_in_one_file",
    ]),
    24: ("files of Matbench that are not whole", [
        "tests/data/adapters/test_matbench.py::test_other_files",
        "tests/data/adapters/test_matbench.py::test_a_file_cut_short_and_a_bomb",
        "tests/data/adapters/test_matbench.py::test_a_file_that_is_there_is_checked_every_time",
    ]),
    25: ("the Materials Project without key, with wrong counts, cut short", [
        "tests/data/materials_project/test_fetch.py::test_a_missing_key_or_one_cut_short",
        "tests/data/materials_project/test_fetch.py::test_fewer_rows_than_counted",
        "tests/data/materials_project/test_fetch.py::test_interrupted_and_resumed",
    ]),
    26: ("a damaged store in the cache", [
        f"{FOLDER}test_disks.py::test_26_a_damaged_store_is_said",
        f"{FOLDER}test_disks.py::test_26_a_damaged_store_is_made_again_from_its_input",
        f"{FOLDER}test_disks.py::test_26_records_of_another_kind_are_no_store",
        "tests/data/test_store.py::test_every_flipped_byte_of_the_positions_is_noticed",
    ]),
    27: ("clocks that change, folders that move", [
        "tests/run_folder/test_owner.py::test_a_folder_is_taken_once",
        f"{FOLDER}test_readers.py::test_27_a_moved_run_goes_on",
    ]),
    28: ("mistakes in a config", [
        "tests/command_line/test_mistakes.py::test_a_mistake_is_one_sentence_with_the_next_step",
        f"{CLI}::test_bad_input_is_one_sentence_and_an_exit_code",
    ]),
    29: ("a config that names functions of the system", ["tests/test_instantiate.py::test_what_may_not_be_named"]),
    30: ("a device that is not there, a model of another device", [
        f"{CHECKPOINT}::test_a_model_goes_to_another_device_and_back",
        "tests/gpu/test_training.py::test_a_device_that_is_not_there_is_refused",
    ]),
    31: ("a worker that dies or fails", [
        f"{FOLDER}test_readers.py::test_31_a_record_that_an_adapter_cannot_read_is_named",
        f"{FOLDER}test_readers.py::test_31_a_crystal_without_a_graph_is_named",
        "tests/data/overlap/test_many_fingerprints.py::test_a_worker_that_dies_is_an_error",
    ]),
    32: ("frozen parts that move", [
        f"{LAWS}::test_frozen_parts_are_equal_to_the_bit_and_the_rest_is_not", f"{LAWS}::test_freeze_equals_features",
    ]),
    33: ("a transfer of no epoch that predicts something else", [f"{LAWS}::test_step_0_is_the_source"]),
    34: ("the same crystal on both sides", [
        "tests/stages/test_overlap.py::test_seen_crystals_are_found_without_the_pretraining_data",
        "tests/data/overlap/test_structure_match.py::test_cell_and_volume_do_not_matter_element_and_structure_do",
    ]),
    35: ("a split that changes when rows are added", [
        "tests/data/test_splits.py::test_by_hash_adding_rows_moves_none",
        "tests/data/test_split_folds.py::test_a_group_never_straddles_folds",
    ]),
}  # fmt: skip


def test_every_number_is_there() -> None:
    assert sorted(ROWS) == list(range(1, 36))


@pytest.mark.parametrize("number", ROWS)
def test_the_tests_of_a_fault_exist_and_are_in_the_page(number: int) -> None:
    fault, tests = ROWS[number]
    for test in tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, test
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^\| {number} \| .*$", page, re.MULTILINE)
    assert line.startswith(f"| {number} | {fault} | ")
    assert all(f"`{test.partition('::')[0]}`" in line for test in tests), line
