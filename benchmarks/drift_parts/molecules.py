"""Molecules as graphs: run in the peers' environment, where RDKit is.

    python molecules.py INPUT.json OUTPUT.npz

INPUT: set -> SMILES. OUTPUT: ``SET`` uint8 [n, ATOMS, WIDTH + ATOMS], ``SET:plain`` the same with bonds that know no
aromaticity (Kekule's form), ``SET:logp`` float32 [n] (Crippen's estimate) and ``SET:sulfonyl`` bool [n]. A row is an
atom: its element (C, N, O, S, F, Cl, Br, other), aromatic or not, hydrogens (0 to 3), and the kind of its bond to each
atom: 0 none, 1 single, 2 double, 3 triple, 4 aromatic. Rows past the last atom are zeros.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from rdkit import Chem, RDLogger
from rdkit.Chem import Crippen

ATOMS = 28
ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br")
WIDTH = len(ELEMENTS) + 1 + 1 + 4
KINDS = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3, Chem.BondType.AROMATIC: 4}
SULFONYL = Chem.MolFromSmarts("S(=O)(=O)")


def main(source: Path, target: Path) -> None:
    """Every set's graphs."""
    RDLogger.DisableLog("rdApp.*")
    made = {}
    for name, smiles in json.loads(source.read_text()).items():
        found = [each for each in map(Chem.MolFromSmiles, smiles) if each and each.GetNumAtoms() <= ATOMS]
        made[f"{name}:logp"] = np.array([Crippen.MolLogP(each) for each in found], np.float32)
        made[f"{name}:sulfonyl"] = np.array([each.HasSubstructMatch(SULFONYL) for each in found])
        made[name] = np.stack([graph(each) for each in found])
        for each in found:
            Chem.Kekulize(each, clearAromaticFlags=True)
        made[f"{name}:plain"] = np.stack([graph(each) for each in found])
    np.savez(target, **made)


def graph(molecule: Chem.Mol) -> np.ndarray:
    """uint8 [ATOMS, WIDTH + ATOMS]."""
    found = np.zeros((ATOMS, WIDTH + ATOMS), np.uint8)
    for atom in molecule.GetAtoms():
        row, symbol = found[atom.GetIdx()], atom.GetSymbol()
        row[ELEMENTS.index(symbol) if symbol in ELEMENTS else len(ELEMENTS)] = 1
        row[len(ELEMENTS) + 1] = atom.GetIsAromatic()
        row[len(ELEMENTS) + 2 + min(atom.GetTotalNumHs(), 3)] = 1
    for bond in molecule.GetBonds():
        a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        found[a, WIDTH + b] = found[b, WIDTH + a] = KINDS[bond.GetBondType()]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
